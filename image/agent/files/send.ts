import { constants } from 'node:http2';
import type { Writable } from 'node:stream';
import { LANE_FROM_BYTES, LANE_HEADER } from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';
import type { Call } from '../http/call.ts';
import { drained } from '../http/drained.ts';
import type { OpenFile } from './read.ts';
import { toFileStat } from './stat.ts';

const PIECE_BYTES = 512 << 10;

/** Answers with the bytes of a file, from `offset` and at most `length` of them. */
export async function sendFile(call: Call, file: OpenFile, path: string): Promise<void> {
  const { size } = file.stat;
  const from = Math.min(call.count('offset') ?? 0, size);
  const to = Math.min(from + (call.count('length') ?? size), size);
  const lane = to - from >= LANE_FROM_BYTES ? await call.lane() : undefined;
  const { stream } = call;
  stream.respond({
    ':status': 200,
    'content-type': 'application/octet-stream',
    [lane === undefined ? 'content-length' : LANE_HEADER]: to - from,
    'x-mobvibe-stat': encodeURIComponent(JSON.stringify(toFileStat(file.stat, path))),
  });
  await copy(file, from, to, path, lane ?? stream);
  if (lane === undefined || stream.closed) return;
  // Its receiver closes it, having all.
  if (!lane.closed) await new Promise((resolve) => lane.once('close', resolve));
  if (lane.writableFinished) stream.end();
  else stream.close(constants.NGHTTP2_CANCEL);
}

async function copy(
  { handle }: OpenFile,
  from: number,
  to: number,
  path: string,
  target: Writable,
): Promise<void> {
  for (let at = from; at < to; ) {
    const { bytesRead, buffer } = await handle.read(
      Buffer.allocUnsafe(Math.min(PIECE_BYTES, to - at)),
      0,
      null,
      at,
    );
    if (bytesRead === 0) throw new Fault('internal', `"${path}" became shorter while it was read`);
    if (target.destroyed) return;
    at += bytesRead;
    if (!target.write(buffer.subarray(0, bytesRead))) await drained(target);
  }
  target.end();
}
