import type { Clock } from '../clock.ts';
import type { Ids } from '../ids.ts';
import type { Lease, MachineRecord } from '../wire.ts';

/** What a real lease says for a token that is no person's. */
const owner = 'local@tokens.fly.io';

export function newLease(
  machine: MachineRecord,
  ttlSeconds: number,
  description: string,
  { clock, ids }: { clock: Clock; ids: Ids },
): Lease {
  return {
    nonce: ids.hex(12),
    expires_at: Math.floor(clock.now() / 1_000) + ttlSeconds,
    owner,
    description,
    version: machine.instance_id,
  };
}
