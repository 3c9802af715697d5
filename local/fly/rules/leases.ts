import type { Lease, MachineRecord } from '../wire.ts';
import { leaseHeld } from './errors.ts';

/** The lease that holds now; an expired one is none. */
export function liveLease(machine: Pick<MachineRecord, 'lease'>, now: number): Lease | undefined {
  return machine.lease && machine.lease.expires_at * 1_000 > now ? machine.lease : undefined;
}

/** Throws Fly's 409 when somebody else holds the machine's lease. */
export function requireLease(
  machine: Pick<MachineRecord, 'id' | 'lease'>,
  nonce: string | undefined,
  now: number,
): void {
  const lease = liveLease(machine, now);
  if (lease && lease.nonce !== nonce) throw leaseHeld(machine.id, lease);
}
