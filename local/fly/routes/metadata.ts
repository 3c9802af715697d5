import type { FastifyInstance } from 'fastify';
import type { Core } from '../core.ts';
import type { Machine } from '../machines/machine.ts';
import { FlyError, failedPrecondition, invalidArgument } from '../rules/errors.ts';
import { bodyObject, optionalObject, optionalString } from '../rules/json.ts';
import { changeableMachineOf, machineOf, paramsOf } from './request.ts';

const config = { action: 'machine.metadata' } as const;

export function metadataRoutes(server: FastifyInstance, core: Core): void {
  const path = '/v1/apps/:app/machines/:machine/metadata';

  server.get(path, { config }, async (request) => machineOf(core, request).record.config.metadata ?? {});

  server.get(`${path}/:key`, { config }, async (request) => {
    const { key } = paramsOf(request);
    const value = machineOf(core, request).record.config.metadata?.[key];
    if (value === undefined) throw new FlyError(404, `not_found: metadata key ${key} not found`);
    return { value };
  });

  server.post(`${path}/:key`, { config }, async (request, reply) => {
    const { key } = paramsOf(request);
    const value = optionalString(bodyObject(request.body, 'main.updateMetadataRequest'), 'value');
    change(changeableMachineOf(core, request), { [key]: value });
    return reply.code(204).send();
  });

  server.delete(`${path}/:key`, { config }, async (request, reply) => {
    change(changeableMachineOf(core, request), { [paramsOf(request).key]: undefined });
    return reply.code(204).send();
  });

  server.route({
    method: ['PUT', 'PATCH'],
    url: path,
    config,
    handler: async (request, reply) => {
      const body = bodyObject(request.body, 'main.updateMetadataRequest');
      const given = optionalObject(body, 'metadata');
      if (!given) throw invalidArgument('metadata is required');
      const values = Object.fromEntries(Object.keys(given).map((key) => [key, optionalString(given, key)]));
      const machine = changeableMachineOf(core, request);
      const version = optionalString(body, 'machine_version');
      if (version && version !== machine.record.instance_id) {
        throw failedPrecondition(`machine_version ${version} is not current`);
      }
      change(machine, values);
      return reply.code(204).send();
    },
  });
}

/** Undefined removes a key. No new version and no restart (Fly docs, machines-resource); earlier versions keep their own. */
function change(machine: Machine, values: Record<string, string | undefined>): void {
  machine.amend((record) => {
    const merged = Object.entries({ ...record.config.metadata, ...values });
    const metadata = Object.fromEntries(
      merged.filter((entry): entry is [string, string] => entry[1] !== undefined),
    );
    record.config = { ...record.config, metadata };
  });
}
