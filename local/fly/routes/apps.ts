import type { FastifyInstance } from 'fastify';
import { checkOrg } from '../access.ts';
import type { Core } from '../core.ts';
import { parseAppRequest } from '../rules/apps.ts';
import { reachesOrg } from '../rules/reach.ts';
import type { AppRecord } from '../wire.ts';
import { appOf, queryOf } from './request.ts';

export function appRoutes(server: FastifyInstance, core: Core): void {
  server.post('/v1/apps', { config: { action: 'app.create' } }, async (request, reply) => {
    const wanted = parseAppRequest(request.body);
    checkOrg(request.reach, wanted.org_slug);
    const app = core.apps.create(wanted);
    return reply.code(201).send({ ...appView(core, app), created_at: app.created_at });
  });

  server.get('/v1/apps', { config: { action: 'app.list' } }, async (request) => {
    const org = queryOf(request).org_slug;
    if (org) checkOrg(request.reach, org);
    const apps = core.apps
      .all()
      .filter(({ org_slug }) => (org ? org_slug === org : reachesOrg(request.reach, org_slug)));
    return { total_apps: apps.length, apps: apps.map((app) => appView(core, app)) };
  });

  server.get('/v1/apps/:app', { config: { action: 'app.get' } }, async (request) =>
    appView(core, appOf(core, request)),
  );

  server.delete('/v1/apps/:app', { config: { action: 'app.delete' } }, async (request, reply) => {
    deleteApp(core, appOf(core, request));
    return reply.code(202).send();
  });
}

/** Its machines go first; until the last one is gone, the name stays taken. */
export function deleteApp(core: Core, app: AppRecord): void {
  core.apps.change(app, (record) => {
    record.deleting = true;
  });
  core.fleet.destroyApp(app.name, () => {
    core.apps.remove(app.name);
    core.proxy.follow(app.name);
  });
}

function appView(core: Core, app: AppRecord): Record<string, unknown> {
  const machines = core.fleet.ofApp(app.name).filter(({ record }) => record.state !== 'destroyed');
  return {
    id: app.id,
    internal_numeric_id: app.internal_numeric_id,
    name: app.name,
    status: machines.length > 0 ? 'deployed' : 'pending',
    network: app.network,
    machine_count: machines.length,
    volume_count: 0,
    organization: { name: app.org_slug, slug: app.org_slug, internal_numeric_id: 1 },
  };
}
