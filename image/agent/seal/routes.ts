import type { SealRequest } from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';
import type { Router } from '../http/router.ts';
import type { Seal } from './seal.ts';

const MOST_GRACE_MS = 600_000;

export function sealRoutes(router: Router, seal: Seal): void {
  router.on('POST', '/seal', async (call) => {
    const { fence, grace_ms } = (await call.json()) as Partial<SealRequest>;
    const request = {
      fence: checkWhole(fence, 'fence', Number.MAX_SAFE_INTEGER),
      grace_ms: checkWhole(grace_ms, 'grace_ms', MOST_GRACE_MS),
    };
    call.reply(200, await seal.take(request));
  });
}

function checkWhole(value: unknown, field: string, most: number): number {
  if (Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most)
    return value as number;
  throw new Fault('invalid_request', `${field} must be a whole number, it is ${JSON.stringify(value)}`, {
    field,
  });
}
