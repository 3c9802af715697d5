import { constants } from 'node:http2';
import { pipeline } from 'node:stream/promises';
import {
  LANE_HEADER,
  type PackRequest,
  type RestoreRequest,
  type UnsavedRequest,
  type UploadRequest,
} from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';
import type { Call } from '../http/call.ts';
import { answerLong } from '../http/long.ts';
import type { Router } from '../http/router.ts';
import type { Workspace } from './workspace.ts';

export function workspaceRoutes(router: Router, workspace: Workspace): void {
  router
    .on('POST', '/workspace/pack', async (call) => {
      const body = await call.json();
      checkWhole(body.base, 'base');
      if (body.object_bytes !== undefined) checkWhole(body.object_bytes, 'object_bytes', 1);
      if (body.pause_ms !== undefined) checkWhole(body.pause_ms, 'pause_ms');
      await answerLong(call, (progress) =>
        workspace.pack(body as unknown as PackRequest, { progress, stillWanted: () => call.checkNotReset() }),
      );
    })
    .on('POST', '/workspace/upload', async (call) => {
      const body = (await call.json()) as unknown as UploadRequest;
      await answerLong(call, async (progress, signal) => ({
        uploaded: await workspace.upload(body, progress, signal),
      }));
    })
    .on('POST', '/workspace/restore', async (call) => {
      const body = await call.json();
      checkWhole(body.version, 'version');
      await answerLong(call, (progress) => workspace.restore(body as unknown as RestoreRequest, progress));
    })
    .on('POST', '/workspace/unsaved', async (call) => {
      const body = await call.json();
      checkWhole(body.base, 'base');
      const request = body as unknown as UnsavedRequest;
      call.reply(200, await workspace.unsaved(request, () => call.checkNotReset()));
    })
    .on('GET', '/workspace/tar', (call) => sendTar(call, workspace));
}

async function sendTar(call: Call, workspace: Workspace): Promise<void> {
  const { stream } = call;
  const lane = await call.lane();
  const tar = await workspace.tar();
  stream.respond({
    ':status': 200,
    'content-type': 'application/x-tar',
    ...(lane !== undefined && { [LANE_HEADER]: '?' }),
  });
  if (lane === undefined) {
    // A tar that breaks off resets the stream: its reader must not take it for whole.
    await pipeline(tar, stream);
    return;
  }
  const closed = new Promise((resolve) => lane.once('close', resolve));
  await pipeline(tar, lane, { end: true }).catch(() => {});
  // Its receiver closes it, having all.
  if (!lane.closed) await closed;
  if (lane.writableFinished) stream.end();
  else stream.close(constants.NGHTTP2_INTERNAL_ERROR);
}

function checkWhole(value: unknown, field: string, least = 0): void {
  if (Number.isSafeInteger(value) && (value as number) >= least) return;
  throw new Fault(
    'invalid_request',
    `${field} must be a whole number from ${least}, it is ${JSON.stringify(value)}`,
    { field },
  );
}
