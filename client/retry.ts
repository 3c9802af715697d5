import type { MobVibeError } from './errors.ts';

/** A request is sent at most so often, the first time included. */
export const MAX_ATTEMPTS = 5;
const BASE_MS = 50;
const CAP_MS = 3_000;

/** What may be over in a moment: the way to the controller or to the sandbox, and a lack of room. Everything else is an answer. */
const PASSING = new Set<string>([
  'controller_unreachable',
  'connection_lost',
  'agent_unreachable',
  'agent_unresponsive',
  'cell_elsewhere',
  'cell_lost',
  'agent_lost',
  'database_unavailable',
  'database_lost',
  'shutting_down',
  'no_capacity',
  'image_failing',
  'too_many_starts',
]);

/** Refusals of a start: the controller says when it is worth coming back, and as often as that fits the deadline it is done. */
const COME_BACK = new Set<string>(['no_capacity', 'image_failing', 'too_many_starts']);

/** Whether it can help to send the same request again. Only for requests that do no harm when they arrive twice. */
export function isPassing(error: MobVibeError): boolean {
  return PASSING.has(error.code);
}

/** Whether attempts are counted; of those that are, there are `MAX_ATTEMPTS` at most. */
export function isCounted({ code, retryAfterMs }: MobVibeError): boolean {
  return retryAfterMs === undefined || !COME_BACK.has(code);
}

/** Pause before attempt `attempt + 1`: not shorter than the controller said, and never the same for many clients. */
export function pauseMs({ retryAfterMs = 0 }: MobVibeError, attempt: number, random = Math.random): number {
  return retryAfterMs + backoffMs(attempt, random);
}

/** Milliseconds: exponential with full jitter, so that many clients do not come at once. */
export function backoffMs(attempt: number, random: () => number = Math.random): number {
  return random() * Math.min(CAP_MS, BASE_MS * 2 ** attempt);
}
