import type { MobVibeError } from './errors.ts';

/** A request is sent at most so often, the first time included. */
export const MAX_ATTEMPTS = 5;
const BASE_MS = 50;
const CAP_MS = 3_000;

/** What may be over in a moment: the way to the controller or to the sandbox. Everything else is an answer. */
const PASSING = new Set<string>([
  'controller_unreachable',
  'connection_lost',
  'agent_unreachable',
  'cell_elsewhere',
  'cell_lost',
  'agent_lost',
  'database_unavailable',
  'database_lost',
  'shutting_down',
]);

/** Whether it can help to send the same request again. Only for requests that do no harm when they arrive twice. */
export function isPassing(error: MobVibeError): boolean {
  return PASSING.has(error.code);
}

/** Pause before attempt `attempt + 1`, milliseconds: exponential with full jitter, so that many clients do not come at once. */
export function backoffMs(attempt: number, random: () => number = Math.random): number {
  return random() * Math.min(CAP_MS, BASE_MS * 2 ** attempt);
}
