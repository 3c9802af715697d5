/** Time as local Fly sees it; tests pass one that they drive (`simulated/clock.ts`). */
export interface Clock {
  /** Unix milliseconds. */
  now(): number;
  /** Calls back once after `ms`; the returned function cancels it and may be called at any time. */
  after(ms: number, callback: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  after(ms, callback) {
    // Unreferenced: a machine's timer is no reason for the process to stay; the listening server is.
    const timer = setTimeout(callback, ms).unref();
    return () => clearTimeout(timer);
  },
};

export function sleep(clock: Clock, ms: number): Promise<void> {
  if (ms <= 0) return Promise.resolve();
  return new Promise((resolve) => {
    clock.after(ms, resolve);
  });
}
