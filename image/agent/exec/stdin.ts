import type { Writable } from 'node:stream';
import { Fault } from '../fault.ts';
import { drained } from '../http/drained.ts';

/** The input of a process by offset, so that a sender who is unsure can send again. */
export class Stdin {
  readonly #pipe: Writable | null;
  #received = 0;
  #ended = false;
  /** The process has closed its side or has ended: what comes is taken and dropped, as a shell's pipe would. */
  #deaf = false;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(pipe: Writable | null) {
    this.#pipe = pipe;
    pipe?.on('error', () => {});
    pipe?.once('close', () => {
      this.#deaf = true;
    });
  }

  /**
   * Takes bytes that begin at `offset`; `eof` closes the input after them. Answers how many came until now. `signal` ends it while it
   * waits for a process that does not read.
   */
  write(body: AsyncIterable<Buffer>, offset: number, eof: boolean, signal: AbortSignal): Promise<number> {
    const turn = this.#turn.then(() => this.#take(body, offset, eof, signal));
    this.#turn = turn.catch(() => {});
    return turn;
  }

  close(): void {
    this.#pipe?.destroy();
  }

  async #take(
    body: AsyncIterable<Buffer>,
    offset: number,
    eof: boolean,
    signal: AbortSignal,
  ): Promise<number> {
    signal.throwIfAborted();
    const pipe = this.#pipe;
    if (pipe === null) {
      throw new Fault('invalid_request', 'The exec was started without stdin', { field: 'stdin' });
    }
    if (offset > this.#received) throw this.#conflict(offset);
    let at = offset;
    for await (const chunk of body) {
      const fresh = chunk.subarray(Math.max(0, this.#received - at));
      at += chunk.length;
      if (fresh.length === 0) continue;
      if (this.#ended) throw this.#conflict(this.#received);
      this.#received += fresh.length;
      // The process may never read, but it ends by its deadline, and then its pipe closes.
      if (!this.#deaf && !pipe.write(fresh)) await drained(pipe, signal);
      signal.throwIfAborted();
    }
    if (eof && at < this.#received) throw this.#conflict(at);
    if (eof && !this.#ended) {
      this.#ended = true;
      pipe.end();
    }
    return this.#received;
  }

  #conflict(offset: number): Fault {
    const state = this.#ended ? 'and its end' : 'bytes';
    return new Fault(
      'stdin_conflict',
      `Input from ${offset} does not follow the ${this.#received} ${state} received`,
      {
        field: 'offset',
      },
    );
  }
}
