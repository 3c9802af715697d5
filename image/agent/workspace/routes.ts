import type { PackRequest, RestoreRequest, UploadRequest } from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';
import type { Router } from '../http/router.ts';
import type { Workspace } from './workspace.ts';

export function workspaceRoutes(router: Router, workspace: Workspace): void {
  router
    .on('POST', '/workspace/pack', async (call) => {
      const body = await call.json();
      checkVersion(body.base, 'base');
      call.reply(200, await workspace.pack(body as unknown as PackRequest, () => call.checkNotReset()));
    })
    .on('POST', '/workspace/upload', async (call) => {
      await workspace.upload((await call.json()) as unknown as UploadRequest);
      call.reply(204);
    })
    .on('POST', '/workspace/restore', async (call) => {
      const body = await call.json();
      checkVersion(body.version, 'version');
      call.reply(200, await workspace.restore(body as unknown as RestoreRequest));
    });
}

function checkVersion(value: unknown, field: string): void {
  if (Number.isSafeInteger(value) && (value as number) >= 0) return;
  throw new Fault('invalid_request', `${field} must be a version, it is ${JSON.stringify(value)}`, { field });
}
