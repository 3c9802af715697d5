import type { Writable } from 'node:stream';

/** Writes byte for byte, no faster than the reader reads. Rejects once the reader has gone. */
export function writerTo(to: Writable): (data: Buffer) => Promise<unknown> {
  const gone = new Promise<never>((_resolve, reject) => to.once('error', reject));
  gone.catch(() => {});
  return (data) => {
    // The answer to a write that fails comes a moment later, so each waits for the bytes to be taken.
    const taken = new Promise<void>((resolve) => to.write(data, (error) => error ?? resolve()));
    return Promise.race([taken, gone]);
  };
}

/** Whoever read our output has closed it, as `head` does. */
export function isReaderGone(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'EPIPE';
}
