import type { Readable } from 'node:stream';
import type { Exec } from './exec.ts';
import type { Spool } from './spool.ts';

/** A process that waits for a reader looks again so often whether the reader has stalled. */
const RECHECK_MS = 1_000;

/** Moves one pipe of a process into its spool, and makes the process wait where the spool can't take more. */
export class Output {
  readonly #source: Readable;
  readonly #spool: Spool;
  readonly #exec: Pick<Exec, 'now' | 'notify'>;
  readonly done: Promise<void>;
  finished = false;
  #recheck: NodeJS.Timeout | undefined;
  #finish: () => void = () => {};

  constructor(source: Readable, spool: Spool, exec: Pick<Exec, 'now' | 'notify'>) {
    this.#source = source;
    this.#spool = spool;
    this.#exec = exec;
    this.done = new Promise((resolve) => {
      this.#finish = resolve;
    });
    source.on('data', this.#take);
    source.on('error', () => {});
    source.once('close', () => {
      this.finished = true;
      this.#finish();
    });
  }

  get paused(): boolean {
    return this.#recheck !== undefined;
  }

  relieve(): void {
    if (!this.paused || this.#spool.full(this.#exec.now())) return;
    clearInterval(this.#recheck);
    this.#recheck = undefined;
    this.#source.resume();
  }

  /** The exec has ended. A process in the background keeps its pipe, and what it writes from now on is dropped. */
  close(): void {
    clearInterval(this.#recheck);
    this.#recheck = undefined;
    this.#spool.close();
    if (this.finished) return;
    this.#source.off('data', this.#take);
    this.#source.resume();
  }

  readonly #take = (chunk: Buffer): void => {
    this.#spool.append(chunk);
    this.#exec.notify();
    if (this.paused || !this.#spool.full(this.#exec.now())) return;
    this.#source.pause();
    this.#recheck = setInterval(() => this.relieve(), RECHECK_MS);
  };
}
