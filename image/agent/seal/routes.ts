import { Fault } from '../fault.ts';
import type { Router } from '../http/router.ts';
import type { Seal } from './seal.ts';

const MOST_GRACE_MS = 600_000;

export function sealRoutes(router: Router, seal: Seal): void {
  router.on('POST', '/seal', async (call) => {
    const { fence, grace_ms } = await call.json();
    call.reply(
      200,
      await seal.close({
        fence: count(fence, 'fence'),
        grace_ms: count(grace_ms, 'grace_ms', MOST_GRACE_MS),
      }),
    );
  });
}

function count(value: unknown, field: string, most = Number.MAX_SAFE_INTEGER): number {
  if (Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most)
    return value as number;
  throw new Fault(
    'invalid_request',
    `${field} must be a whole number from 0 to ${most}, it is ${JSON.stringify(value)}`,
    {
      field,
    },
  );
}
