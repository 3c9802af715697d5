import type { Writable } from 'node:stream';

/** Settles when a stream takes more, or never will again, or at the signal. */
export function drained(stream: Writable, signal?: AbortSignal): Promise<void> {
  if (stream.destroyed || !stream.writableNeedDrain || signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const settle = () => {
      stream.off('drain', settle);
      stream.off('close', settle);
      signal?.removeEventListener('abort', settle);
      resolve();
    };
    stream.on('drain', settle);
    stream.on('close', settle);
    signal?.addEventListener('abort', settle);
  });
}
