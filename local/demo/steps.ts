/** Prints the demo as numbered steps, each with what it showed and how long it took. */
export class Steps {
  readonly #write: (text: string) => void;
  readonly #now: () => number;
  readonly #total: number;
  readonly #began: number;
  #done = 0;

  constructor(total: number, write: (text: string) => void, now: () => number) {
    this.#total = total;
    this.#write = write;
    this.#now = now;
    this.#began = now();
  }

  /** Runs one step; its lines are indented below its title. */
  async step<T>(title: string, run: (say: (line: string) => void) => Promise<T>): Promise<T> {
    this.#done += 1;
    const began = this.#now();
    this.#write(`\n${this.#done}/${this.#total}  ${title}\n`);
    const result = await run((line) => this.#write(`     ${line}\n`));
    this.#write(`     ✓ ${milliseconds(this.#now() - began)}\n`);
    return result;
  }

  /** Since the first step's beginning. */
  elapsed(): string {
    return milliseconds(this.#now() - this.#began);
  }
}

export function milliseconds(ms: number): string {
  return ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

/** Fails the demo, and with it CI, when what it shows is not so. */
export function expect(condition: boolean, sentence: string): void {
  if (!condition) throw new Error(`the demo expected that ${sentence}`);
}
