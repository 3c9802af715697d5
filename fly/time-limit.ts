import { flyError } from './errors.ts';

/** The caller's signal and the deadline of a whole call, as one signal. */
export interface TimeLimit {
  readonly signal: AbortSignal;
  /** Milliseconds, never negative. */
  remainingMs(): number;
  /** Whether it was the deadline that ended it. */
  expired(): boolean;
  close(): void;
}

/** The longest that a timer takes; more would fire at once. */
const LONGEST_MS = 2 ** 31 - 1;

export function openTimeLimit(
  clock: () => number,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): TimeLimit {
  const ends = clock() + timeoutMs;
  const controller = new AbortController();
  let expired = false;
  const onAbort = (): void => controller.abort();
  const timer = setTimeout(
    () => {
      expired = !controller.signal.aborted;
      controller.abort();
    },
    Math.min(timeoutMs, LONGEST_MS),
  );
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted) onAbort();
  return {
    signal: controller.signal,
    remainingMs: () => Math.max(0, ends - clock()),
    expired: () => expired,
    close() {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    },
  };
}

/** The time given for a call, or its default, in milliseconds. */
export function timeoutOf(call: string, given: number | undefined, defaultMs: number): number {
  if (given === undefined) return defaultMs;
  if (!(Number.isFinite(given) && given > 0)) {
    throw flyError('mistake', {
      call,
      field: 'timeoutMs',
      detail: `timeoutMs must be a number above 0; it is ${given}`,
    });
  }
  return given;
}
