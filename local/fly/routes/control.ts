import type { FastifyInstance } from 'fastify';
import type { Core } from '../core.ts';
import { type Fault, parseFault } from '../faults.ts';
import { invalidArgument } from '../rules/errors.ts';
import { bodyObject, optionalBoolean } from '../rules/json.ts';
import { paramsOf } from './request.ts';

/**
 * What a test does to a local Fly in another process; not part of Fly's API, with the same token.
 *
 * | request | effect |
 * | --- | --- |
 * | `POST /local/faults` | a `Fault` → 204 |
 * | `GET /local/faults`, `DELETE /local/faults` | those still to be met → `Fault[]`; forgets them → 204 |
 * | `POST /local/machines/{id}/die` | `{ oom_killed? }` → 204; sudden death |
 * | `PUT /local/machines/{id}/host_status` | `{ host_status: "ok" or "unreachable" }` → 204 |
 */
export function controlRoutes(server: FastifyInstance, core: Core): void {
  server.post('/local/faults', async (request, reply) => {
    core.faults.add(parseFault(bodyObject(request.body, 'local.fault')));
    return reply.code(204).send();
  });

  server.get('/local/faults', async (): Promise<Fault[]> => core.faults.pending());

  server.delete('/local/faults', async (_request, reply) => {
    core.faults.clear();
    return reply.code(204).send();
  });

  server.post('/local/machines/:machine/die', async (request, reply) => {
    const oomKilled = optionalBoolean(bodyObject(request.body, 'local.die'), 'oom_killed');
    await core.fleet.byId(paramsOf(request).machine).die({ oomKilled });
    return reply.code(204).send();
  });

  server.put('/local/machines/:machine/host_status', async (request, reply) => {
    const { host_status } = bodyObject(request.body, 'local.host_status');
    if (host_status !== 'ok' && host_status !== 'unreachable') {
      throw invalidArgument(`host_status: ${JSON.stringify(host_status)} is not one of ok, unreachable`);
    }
    core.fleet.byId(paramsOf(request).machine).amend((record) => {
      record.host_status = host_status;
    });
    return reply.code(204).send();
  });
}
