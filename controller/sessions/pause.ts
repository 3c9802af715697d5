import { setTimeout as sleep } from 'node:timers/promises';

/** Waits, or returns early when the signal says so. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  await sleep(ms, undefined, signal && { signal }).catch(() => undefined);
}

/** Full jitter over a window that doubles with each try (from 1) up to `mostMs`; never below a tenth of it. */
export function backoff(attempt: number, random: () => number, baseMs: number, mostMs: number): number {
  const window = Math.min(mostMs, baseMs * 2 ** (attempt - 1));
  return window * (0.1 + 0.9 * random());
}
