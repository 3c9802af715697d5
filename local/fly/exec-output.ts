import type { Readable } from 'node:stream';

/** Bytes kept of each stream of an exec, whatever the engine; the rest is read and dropped. */
const OUTPUT_MAX = 1024 * 1024;

/** Reads a stream from now on; the function that is returned gives what was kept of it. */
export function collectOutput(stream: Readable): () => string {
  const pieces: Buffer[] = [];
  let kept = 0;
  stream.on('data', (piece: Buffer) => {
    if (kept >= OUTPUT_MAX) return;
    pieces.push(piece.subarray(0, OUTPUT_MAX - kept));
    kept += Math.min(piece.length, OUTPUT_MAX - kept);
  });
  return () => Buffer.concat(pieces).toString('utf8');
}
