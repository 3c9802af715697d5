/** Says one sentence to the person who runs local Fly. */
export type Log = (sentence: string) => void;
