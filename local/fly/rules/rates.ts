import type { Action } from '../actions.ts';

/** A token bucket: `burst` calls at once, refilled at `perSecond`. */
export interface Limit {
  perSecond: number;
  burst: number;
}

/** Per action and machine, or app where there is no machine yet (Fly docs, working-with-machines-api). */
const usual: Limit = { perSecond: 1, burst: 3 };
const machineGet: Limit = { perSecond: 5, burst: 10 };
/** 100 a minute. */
const appDelete: Limit = { perSecond: 100 / 60, burst: 100 };

export function limitOf(action: Action): Limit {
  if (action === 'machine.get') return machineGet;
  return action === 'app.delete' ? appDelete : usual;
}

interface Bucket {
  tokens: number;
  at: number;
}

/** One call's outcome: the bucket after it, and whether it may go on. Pure; `now` in Unix milliseconds. */
export function take(
  bucket: Bucket | undefined,
  limit: Limit,
  now: number,
): { bucket: Bucket; allowed: boolean } {
  const elapsedSeconds = bucket ? Math.max(0, now - bucket.at) / 1_000 : 0;
  const tokens = bucket
    ? Math.min(limit.burst, bucket.tokens + elapsedSeconds * limit.perSecond)
    : limit.burst;
  return tokens >= 1
    ? { bucket: { tokens: tokens - 1, at: now }, allowed: true }
    : { bucket: { tokens, at: now }, allowed: false };
}

/** Buckets idle for so long are full again under every limit above and need not be kept. */
const idleMs = 60_000;

export class RateLimiter {
  readonly #buckets = new Map<string, Bucket>();
  #sweptAt = 0;

  allows(action: Action, target: string, now: number): boolean {
    this.#sweep(now);
    const key = `${action} ${target}`;
    const { bucket, allowed } = take(this.#buckets.get(key), limitOf(action), now);
    this.#buckets.set(key, bucket);
    return allowed;
  }

  #sweep(now: number): void {
    if (now - this.#sweptAt < idleMs) return;
    this.#sweptAt = now;
    for (const [key, bucket] of this.#buckets) if (now - bucket.at >= idleMs) this.#buckets.delete(key);
  }
}
