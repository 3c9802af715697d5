/** The parts until the signal is aborted, which throws its reason though the next part may never come. */
export async function* until<T>(signal: AbortSignal, parts: AsyncGenerator<T>): AsyncGenerator<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  aborted.catch(() => {});
  const abort = () => reject(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  try {
    for (;;) {
      const next = await Promise.race([aborted, parts.next()]);
      if (next.done) return;
      yield next.value;
    }
  } finally {
    signal.removeEventListener('abort', abort);
    // It may wait for a part that never comes.
    parts.return(undefined).catch(() => {});
  }
}
