/** Requests that Fly lets pass for one key: `burst` at once, refilled at `perSecond`. */
export interface RateLimit {
  perSecond: number;
  burst: number;
}

/**
 * Fly docs, "machines/api/working-with-machines-api": per action and machine id, or app id where there is no
 * machine yet.
 */
export const PER_ACTION: RateLimit = { perSecond: 1, burst: 3 };
export const GET_MACHINE: RateLimit = { perSecond: 5, burst: 10 };
/** 100 app deletions a minute, whatever the app. */
export const APP_DELETIONS: RateLimit = { perSecond: 100 / 60, burst: 3 };

/**
 * We refill a little more slowly than Fly does. Requests that we space exactly as Fly counts would now and
 * then arrive a few milliseconds closer together than they left, and be refused.
 */
const PACE = 0.95;

/** Machines that this client creates in one app: of others that use the same app's limit it knows nothing. */
export const CREATES: RateLimit = { perSecond: PER_ACTION.perSecond * PACE, burst: PER_ACTION.burst };

export type Sleep = (ms: number, signal?: AbortSignal) => Promise<void>;

interface Bucket {
  readonly limit: RateLimit;
  /** Below zero after a refusal by Fly. */
  tokens: number;
  countedAt: number;
  waiters: { pass: () => void }[];
  serving: boolean;
}

/**
 * One token bucket for each key; who has to wait is served in the order of arrival. A caller that gives up
 * leaves the line without using up a place. Keys that have been idle long enough to be full again are
 * forgotten, so memory follows use.
 */
export class RateLimiter {
  /** In order of last use: the idle ones are at the front. */
  readonly #buckets = new Map<string, Bucket>();
  readonly #clock: () => number;
  readonly #sleep: Sleep;

  constructor(clock: () => number, sleep: Sleep) {
    this.#clock = clock;
    this.#sleep = sleep;
  }

  /** Number of keys remembered now. */
  get size(): number {
    return this.#buckets.size;
  }

  /** How long a call with this key would have to wait if it came now, in milliseconds. */
  expectedWaitMs(key: string, limit: RateLimit): number {
    const bucket = this.#buckets.get(key);
    if (bucket === undefined) return 0;
    this.#refill(bucket);
    return this.#msUntil(bucket.waiters.length + 1 - bucket.tokens, limit);
  }

  /**
   * Resolves when a call with this key may be sent; rejects with the signal's reason when that is aborted
   * first.
   */
  async acquire(key: string, limit: RateLimit, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const bucket = this.#touch(key, limit);
    this.#refill(bucket);
    if (bucket.waiters.length === 0 && bucket.tokens >= 1) {
      bucket.tokens -= 1;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const leave = (): void => {
        bucket.waiters.splice(bucket.waiters.indexOf(waiter), 1);
        reject(signal.reason);
      };
      const waiter = {
        pass: () => {
          signal.removeEventListener('abort', leave);
          resolve();
        },
      };
      signal.addEventListener('abort', leave, { once: true });
      bucket.waiters.push(waiter);
      if (!bucket.serving) void this.#serve(bucket);
    });
  }

  /**
   * Fly refused a call with this key all the same (somebody else uses the same limit): the next ones wait a
   * full interval.
   */
  refused(key: string, limit: RateLimit): void {
    const bucket = this.#touch(key, limit);
    this.#refill(bucket);
    bucket.tokens = Math.min(bucket.tokens, 0);
  }

  async #serve(bucket: Bucket): Promise<void> {
    bucket.serving = true;
    while (bucket.waiters.length > 0) {
      this.#refill(bucket);
      const waitMs = this.#msUntil(1 - bucket.tokens, bucket.limit);
      if (waitMs > 0) {
        await this.#sleep(waitMs);
        continue;
      }
      bucket.tokens -= 1;
      bucket.waiters.shift()?.pass();
    }
    bucket.serving = false;
  }

  #touch(key: string, limit: RateLimit): Bucket {
    this.#forgetIdle();
    const bucket = this.#buckets.get(key) ?? {
      limit,
      tokens: limit.burst,
      countedAt: this.#clock(),
      waiters: [],
      serving: false,
    };
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    return bucket;
  }

  /**
   * A full bucket is no different from none. Stops at the first one in use, so that the cost is that of what
   * it drops.
   */
  #forgetIdle(): void {
    for (const [key, bucket] of this.#buckets) {
      this.#refill(bucket);
      if (bucket.serving || bucket.tokens < bucket.limit.burst) return;
      this.#buckets.delete(key);
    }
  }

  #refill(bucket: Bucket): void {
    const now = this.#clock();
    const grown = ((now - bucket.countedAt) / 1000) * bucket.limit.perSecond * PACE;
    bucket.tokens = Math.min(bucket.limit.burst, bucket.tokens + grown);
    bucket.countedAt = now;
  }

  /** Rounded up, and with a hair taken off, so that sleeping for it is enough in spite of floating point. */
  #msUntil(missingTokens: number, limit: RateLimit): number {
    return Math.max(0, Math.ceil((missingTokens / (limit.perSecond * PACE)) * 1000 - 1e-6));
  }
}
