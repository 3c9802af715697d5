import type { FastifyInstance } from 'fastify';
import type { Core } from '../core.ts';
import { FlyError, invalidArgument } from '../rules/errors.ts';
import { bodyObject, optionalObject, optionalString } from '../rules/json.ts';
import { parsePolicyRules } from '../rules/policies.ts';
import type { NetworkPolicy } from '../wire.ts';
import { appOf, paramsOf } from './request.ts';

const config = { action: 'app.network_policies' } as const;

/**
 * As on Fly, a policy holds for what boots after it. Only the docker engine gives machines a network that could be narrowed; a machine
 * of the others has none at all. Fly does not document the replies; ours are the policy itself and an array of them.
 */
export function networkPolicyRoutes(server: FastifyInstance, core: Core): void {
  const path = '/v1/apps/:app/network_policies';

  server.get(path, { config }, async (request) => appOf(core, request).network_policies);

  server.post(path, { config }, async (request, reply) => {
    const body = bodyObject(request.body, 'main.networkPolicyRequest');
    const app = appOf(core, request);
    const given = optionalString(body, 'id');
    const known = app.network_policies.find(({ id }) => id === given);
    if (given && !known) throw notFound(given);
    const name = optionalString(body, 'name') ?? known?.name;
    if (!name) throw invalidArgument('name is required');
    const policy: NetworkPolicy = {
      id: known?.id ?? core.ids.hex(16),
      name,
      selector: optionalObject(body, 'selector') ?? { all: true },
      rules: parsePolicyRules(body.rules),
    };
    core.apps.change(app, (record) => {
      record.network_policies = [...record.network_policies.filter(({ id }) => id !== policy.id), policy];
    });
    return reply.code(known ? 200 : 201).send(policy);
  });

  server.delete(`${path}/:policy`, { config }, async (request, reply) => {
    const { policy } = paramsOf(request);
    const app = appOf(core, request);
    if (!app.network_policies.some(({ id }) => id === policy)) throw notFound(policy);
    core.apps.change(app, (record) => {
      record.network_policies = record.network_policies.filter(({ id }) => id !== policy);
    });
    return reply.code(204).send();
  });
}

const notFound = (id: string) => new FlyError(404, `not_found: network policy ${id} not found`);
