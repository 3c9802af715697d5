import { setTimeout as delay } from 'node:timers/promises';
import { MobVibeError } from './errors.ts';

/** A point in time and the caller's signal: what bounds a call, however many requests it takes. */
export class Deadline {
  readonly #what: string;
  readonly #timeoutMs: number;
  readonly #signal: AbortSignal | undefined;
  readonly #at: number;

  /** `what` names the call in the error. */
  constructor(what: string, timeoutMs: number, signal?: AbortSignal) {
    if (!(timeoutMs > 0)) {
      throw new MobVibeError('invalid_option', 'mistake', `timeoutMs is ${timeoutMs}: must be above 0`, {
        field: 'timeoutMs',
      });
    }
    this.#what = what;
    this.#timeoutMs = timeoutMs;
    this.#signal = signal;
    this.#at = performance.now() + timeoutMs;
  }

  get leftMs(): number {
    return this.#at - performance.now();
  }

  /** Throws when time is up or the caller has given up. */
  check(): void {
    if (this.#signal?.aborted) throw this.#aborted();
    if (this.leftMs <= 0) throw this.#exceeded();
  }

  async pause(ms: number): Promise<void> {
    try {
      await delay(Math.min(ms, Math.max(0, this.leftMs)), undefined, { signal: this.#signal });
    } catch {
      // The signal was raised; said by check().
    }
    this.check();
  }

  /** Calls `onOver` once with the reason when the time is up or the signal is raised, until the returned function is called. */
  watch(onOver: (reason: MobVibeError) => void): () => void {
    const timer = setTimeout(() => onOver(this.#exceeded()), Math.min(Math.max(1, this.leftMs), 2 ** 31 - 1));
    const onAbort = () => onOver(this.#aborted());
    if (this.#signal?.aborted) onAbort();
    this.#signal?.addEventListener('abort', onAbort, { once: true });
    return () => {
      clearTimeout(timer);
      this.#signal?.removeEventListener('abort', onAbort);
    };
  }

  #exceeded(): MobVibeError {
    return new MobVibeError(
      'deadline_exceeded',
      'unknown',
      `${this.#what} took longer than ${this.#timeoutMs} ms`,
    );
  }

  #aborted(): MobVibeError {
    return new MobVibeError('aborted', 'unknown', `${this.#what} was given up by its caller`, {
      cause: this.#signal?.reason,
    });
  }
}
