import { Fault } from '../fault.ts';

/** Called right before a change is made: throws once the sandbox is sealed. */
export interface Still {
  (): void;
  /** Aborted by the seal, for whoever waits for something in between. */
  readonly signal: AbortSignal;
}

/** Every change of the sandbox passes here. Once it is closed no more are let in. */
export class Gate {
  readonly #sealed = new AbortController();
  readonly #still: Still;
  readonly #admitted = new Set<Promise<unknown>>();
  #held: Promise<unknown> | undefined;

  constructor() {
    const { signal } = this.#sealed;
    const check = () => {
      if (signal.aborted) throw stopping();
    };
    this.#still = Object.assign(check, { signal });
  }

  /** Throws `session_stopping` once closed. While somebody holds the gate, it is waited for. */
  async admit<T>(work: (still: Still) => Promise<T> | T): Promise<T> {
    this.#still();
    while (this.#held !== undefined) await this.#held;
    this.#still();
    const running = (async () => work(this.#still))();
    this.#admitted.add(running);
    try {
      return await running;
    } finally {
      this.#admitted.delete(running);
    }
  }

  /** Lets nobody in any more and waits until what was let in has settled. */
  async close(): Promise<void> {
    this.#sealed.abort(stopping());
    await this.#settled();
  }

  /** Exclusive: nothing that was let in is under way while it runs, and new ones wait. */
  async hold<T>(work: () => Promise<T>): Promise<T> {
    while (this.#held !== undefined) await this.#held;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#held = promise;
    try {
      await this.#settled();
      return await work();
    } finally {
      this.#held = undefined;
      resolve();
    }
  }

  async #settled(): Promise<void> {
    await Promise.allSettled([...this.#admitted]);
  }
}

function stopping(): Fault {
  return new Fault('session_stopping', 'The session is being stopped: nothing is changed any more');
}
