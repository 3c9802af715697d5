import type { ErrorCode } from '../errors.ts';

const PASSING_MS = 1_000;
const MOST_PASSING_MS = 60_000;
/** What only a person can change is asked for again at this pace. */
const LASTING_MS = 300_000;
const LASTING: ReadonlySet<ErrorCode> = new Set(['storage_full', 'storage_refused']);

/** How long after the `attempt`th save in a row that failed (from 1) the next one begins. Pure. */
export function saveRetryMs(code: ErrorCode, attempt: number, random: () => number): number {
  if (LASTING.has(code)) return LASTING_MS * (0.9 + 0.2 * random());
  const window = Math.min(MOST_PASSING_MS, PASSING_MS * 2 ** (Math.max(1, attempt) - 1));
  return window * (0.5 + 0.5 * random());
}
