/** Resolves after `ms`, or at once when the signal is raised. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, Math.max(0, ms));
    signal?.addEventListener('abort', end, { once: true });
  });
}

/** Asks until the answer is neither false nor undefined; undefined when that takes longer than `ms`. */
export async function within<T>(
  ms: number,
  probe: () => Promise<T | undefined | false>,
  everyMs = 250,
): Promise<T | undefined> {
  const until = performance.now() + ms;
  for (;;) {
    const value = await probe();
    if (value !== undefined && value !== false) return value;
    if (performance.now() >= until) return undefined;
    await pause(everyMs);
  }
}
