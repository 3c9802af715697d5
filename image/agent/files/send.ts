import { Fault } from '../fault.ts';
import type { Call } from '../http/call.ts';
import { drained } from '../http/drained.ts';
import type { OpenFile } from './read.ts';
import { toFileStat } from './stat.ts';

const PIECE_BYTES = 512 << 10;

/** Answers with the bytes of a file, from `offset` and at most `length` of them. */
export async function sendFile(call: Call, { handle, stat }: OpenFile, path: string): Promise<void> {
  const from = Math.min(call.count('offset') ?? 0, stat.size);
  const to = Math.min(from + (call.count('length') ?? stat.size), stat.size);
  const { stream } = call;
  stream.respond({
    ':status': 200,
    'content-type': 'application/octet-stream',
    'content-length': to - from,
    'x-mobvibe-stat': encodeURIComponent(JSON.stringify(toFileStat(stat, path))),
  });
  for (let at = from; at < to; ) {
    const { bytesRead, buffer } = await handle.read(
      Buffer.allocUnsafe(Math.min(PIECE_BYTES, to - at)),
      0,
      null,
      at,
    );
    if (bytesRead === 0) throw new Fault('internal', `"${path}" became shorter while it was read`);
    if (stream.destroyed) return;
    at += bytesRead;
    if (!stream.write(buffer.subarray(0, bytesRead))) await drained(stream);
  }
  stream.end();
}
