import type { FastifyRequest } from 'fastify';
import type { Core } from '../core.ts';
import type { Machine } from '../machines/machine.ts';
import { hostUnreachable } from '../rules/errors.ts';
import { requireLease } from '../rules/leases.ts';
import { refusal, type Verb } from '../rules/states.ts';
import type { AppRecord } from '../wire.ts';

export interface Params {
  app: string;
  machine: string;
  name: string;
  key: string;
  policy: string;
  ip: string;
  org: string;
}

export function paramsOf(request: FastifyRequest): Params {
  return request.params as Params;
}

export function queryOf(request: FastifyRequest): Record<string, string | undefined> {
  return request.query as Record<string, string | undefined>;
}

export function nonceOf(request: FastifyRequest): string | undefined {
  return request.headers['fly-machine-lease-nonce'] as string | undefined;
}

/** The app that the path names; throws 404. */
export function appOf(core: Core, request: FastifyRequest): AppRecord {
  return core.apps.find(paramsOf(request).app);
}

/** The machine that the path names; throws 404. */
export function machineOf(core: Core, request: FastifyRequest): Machine {
  const { app, machine } = paramsOf(request);
  core.apps.find(app);
  return core.fleet.find(app, machine);
}

/** The same for a call that changes it: throws 408 for an unreachable host and 409 under somebody else's lease. */
export function changeableMachineOf(core: Core, request: FastifyRequest): Machine {
  const machine = machineOf(core, request);
  if (machine.record.host_status !== 'ok') throw hostUnreachable(machine.record.id);
  requireLease(machine.record, nonceOf(request), core.clock.now());
  return machine;
}

/** The same for a call that is legal in some states only: throws 412 in the others. */
export function machineFor(verb: Verb, core: Core, request: FastifyRequest): Machine {
  const machine = changeableMachineOf(core, request);
  const refused = refusal(verb, machine.record);
  if (refused) throw refused;
  return machine;
}
