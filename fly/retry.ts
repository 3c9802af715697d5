import type { Effect } from './classify.ts';
import type { FlyErrorKind, FlyErrorReason } from './errors.ts';

/**
 * May this call be sent again, as it stands, after this error? Pure; the table of cases is
 * `test/fly/retry.test.ts`.
 *
 * Fly has no idempotency key, so a call with an effect of its own (`once`: creates, execs, signals, updates)
 * is sent again only when it provably had none: a refusal for its rate, or no connection at all. (flyctl's
 * transport repeats every method after a 502; that is how machines get doubled. `createMachine` has a
 * procedure of its own on top, see `create.ts`.)
 *
 * Never after an abort: the caller wants no more. Never after a wait that ended without its state: the loop
 * around it decides.
 */
export function mayRetry(
  effect: Effect,
  error: { kind: FlyErrorKind; reason?: FlyErrorReason | undefined },
): boolean {
  if (error.reason === 'aborted' || error.reason === 'wait_timeout') return false;
  switch (error.kind) {
    case 'rate':
      return true;
    // Of a call with an effect this kind means "never sent"; of a read, that it failed and changed nothing.
    case 'platform':
      return true;
    case 'unknown_outcome':
      return effect === 'repeatable';
    // A start right after a stop, or while another change is under way: passes within seconds.
    case 'precondition':
      return effect === 'repeatable' && error.reason === 'busy';
    case 'conflict':
      return effect === 'repeatable' && error.reason === 'concurrent_update';
    case 'mistake':
    case 'not_found':
    case 'capacity':
    case 'quota':
    case 'auth':
      return false;
  }
}

const BASE_MS = 250;
const CAP_MS = 8_000;
/** Fly's limits refill at one request a second, so nearer than that a 429 can only repeat itself. */
const RATE_FLOOR_MS = 1_000;

/**
 * How long to stay away before attempt `attempt + 1` (attempts count from 1), in whole milliseconds: full
 * jitter over a window that doubles from 250 ms to 8 s; after a refusal for its rate at least 1 s, or what
 * the answer asked for.
 */
export function backoffMs(
  attempt: number,
  error: { kind: FlyErrorKind; retryAfterMs?: number | undefined },
  random: () => number,
): number {
  const jitter = Math.round(random() * Math.min(CAP_MS, BASE_MS * 2 ** attempt));
  if (error.kind === 'rate') return Math.max(RATE_FLOOR_MS, error.retryAfterMs ?? 0) + jitter;
  return Math.max(error.retryAfterMs ?? 0, jitter);
}
