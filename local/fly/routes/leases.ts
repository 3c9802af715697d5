import type { FastifyInstance } from 'fastify';
import type { Core } from '../core.ts';
import { newLease } from '../machines/lease.ts';
import { invalidArgument, leaseNotFound } from '../rules/errors.ts';
import { bodyObject, optionalInteger, optionalString } from '../rules/json.ts';
import { liveLease } from '../rules/leases.ts';
import { changeableMachineOf, machineOf, queryOf } from './request.ts';

const config = { action: 'machine.lease' } as const;
const defaultTtlSeconds = 60;

export function leaseRoutes(server: FastifyInstance, core: Core): void {
  const path = '/v1/apps/:app/machines/:machine/lease';

  server.get(path, { config }, async (request) => {
    const lease = liveLease(machineOf(core, request).record, core.clock.now());
    if (!lease) throw leaseNotFound();
    return { status: 'success', data: lease };
  });

  server.post(path, { config }, async (request, reply) => {
    const body = bodyObject(request.body, 'main.createLeaseRequest');
    const query = queryOf(request).ttl;
    const ttl = query === undefined ? (optionalInteger(body, 'ttl') ?? defaultTtlSeconds) : Number(query);
    if (!Number.isInteger(ttl) || ttl < 1)
      throw invalidArgument(`ttl: ${query ?? ttl} is no number of seconds`);
    const description = optionalString(body, 'description') ?? '';

    const machine = changeableMachineOf(core, request);
    const held = liveLease(machine.record, core.clock.now());
    const lease = newLease(machine.record, ttl, description, core);
    // Who holds it already keeps the nonce: that is a refresh.
    if (held) lease.nonce = held.nonce;
    machine.amend((record) => {
      record.lease = lease;
    });
    return reply.code(201).send({ status: 'success', data: lease });
  });

  server.delete(path, { config }, async (request) => {
    const machine = changeableMachineOf(core, request);
    if (!liveLease(machine.record, core.clock.now())) throw leaseNotFound();
    machine.amend((record) => {
      record.lease = undefined;
    });
    return { status: 'success', data: { ok: true } };
  });
}
