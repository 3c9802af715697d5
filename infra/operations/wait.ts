import { setTimeout as delay } from 'node:timers/promises';

/** What a look found: what was waited for, or, in words for the error, how things stand. */
export type Seen<T> = { done: T } | { waiting: string };

export interface WaitTime {
  /** Milliseconds from any origin. */
  clock: () => number;
  sleep: (ms: number) => Promise<unknown>;
}

const EVERY_MS = 500;
const REAL_TIME: WaitTime = { clock: () => performance.now(), sleep: (ms) => delay(ms) };

/** Looks twice a second until it is `done`. Rejects after `timeoutMs`, naming `what` and what was seen last. */
export async function waitUntil<T>(
  what: string,
  timeoutMs: number,
  look: () => Promise<Seen<T>>,
  { clock, sleep }: WaitTime = REAL_TIME,
): Promise<T> {
  const ends = clock() + timeoutMs;
  for (;;) {
    const seen = await look();
    if ('done' in seen) return seen.done;
    if (clock() + EVERY_MS > ends) {
      throw new Error(`${what}: not within ${timeoutMs / 1000} s; ${seen.waiting}`);
    }
    await sleep(EVERY_MS);
  }
}
