import { Fault } from '../fault.ts';

/** What an admitted change is given: to be called right before something is changed. Throws once the gate is closed. */
export interface Still {
  (): void;
  /** Aborted, with the fault as its reason, when the gate closes. */
  readonly signal: AbortSignal;
  /**
   * Runs a part that changes nothing which is saved, such as the wait for a body. A hold does not wait for it; after it, this waits
   * until no hold is there, and throws once the gate is closed.
   */
  aside<T>(part: () => Promise<T>): Promise<T>;
}

/** Through it goes whatever changes files or starts processes, so that all of it can be held for a moment, or ended for good. */
export class Gate {
  readonly #closing = new AbortController();
  readonly #holdPatienceMs: number;
  #inside = 0;
  #aside = 0;
  #held = false;
  #changed: (() => void)[] = [];

  /** `holdPatienceMs`: a hold waits so long for what was admitted before it; meanwhile others wait for the hold. */
  constructor({ holdPatienceMs = 2_000 } = {}) {
    this.#holdPatienceMs = holdPatienceMs;
  }

  /** Aborted, with the fault as its reason, when the gate closes. */
  get signal(): AbortSignal {
    return this.#closing.signal;
  }

  get closed(): boolean {
    return this.signal.aborted;
  }

  /** Runs a change. Throws `session_stopping` when the gate is closed; waits while it is held. */
  async admit<T>(work: (still: Still) => Promise<T> | T): Promise<T> {
    while (this.#held && !this.closed) await this.#change();
    this.signal.throwIfAborted();
    this.#inside += 1;
    try {
      return await work(this.#still());
    } finally {
      this.#inside -= 1;
      this.#tell();
    }
  }

  /** Admits nothing more, for good. Settles when all that was admitted has settled, and no hold is there. */
  async close(): Promise<void> {
    if (!this.closed) this.#closing.abort(new Fault('session_stopping', 'The session is being stopped'));
    this.#tell();
    while (this.#inside > 0 || this.#held) await this.#change();
  }

  /** Runs work while nothing is being changed. Rejects with `GateBusy` when what was admitted before takes too long. */
  async hold<T>(work: () => Promise<T>): Promise<T> {
    while (this.#held) await this.#change();
    this.#held = true;
    let patient = true;
    const timer = setTimeout(() => {
      patient = false;
      this.#tell();
    }, this.#holdPatienceMs);
    try {
      while (this.#inside > this.#aside) {
        if (!patient) throw new GateBusy('Changes were under way for too long');
        await this.#change();
      }
      return await work();
    } finally {
      clearTimeout(timer);
      this.#held = false;
      this.#tell();
    }
  }

  #still(): Still {
    const { signal } = this;
    const aside = async <T>(part: () => Promise<T>): Promise<T> => {
      this.#aside += 1;
      this.#tell();
      try {
        const value = await part();
        while (this.#held && !this.closed) await this.#change();
        signal.throwIfAborted();
        return value;
      } finally {
        this.#aside -= 1;
      }
    };
    return Object.assign(() => signal.throwIfAborted(), { signal, aside });
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#changed.push(resolve));
  }

  #tell(): void {
    for (const wake of this.#changed.splice(0)) wake();
  }
}

/** A hold was not possible now. */
export class GateBusy extends Error {
  override readonly name = 'GateBusy';
}
