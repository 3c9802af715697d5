const FIRST_MS = 100;
const MOST_MS = 10_000;

/**
 * How long to wait before dialing again, with full jitter: any time up to a bound that doubles from 100 ms to 10 s. So the
 * agents of a controller that went away don't all come back at once.
 */
export function redialDelay(attempt: number, random: () => number): number {
  return Math.floor(random() * Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(attempt, 10)));
}
