import type { FastifyInstance } from 'fastify';
import type { Core } from '../core.ts';
import { FlyError, invalidArgument } from '../rules/errors.ts';
import { bodyObject, optionalObject, optionalString } from '../rules/json.ts';
import { sha256Hex } from '../rules/tokens.ts';
import type { AppRecord, Secret } from '../wire.ts';
import { appOf, paramsOf, queryOf } from './request.ts';

const config = { action: 'app.secrets' } as const;

export function secretRoutes(server: FastifyInstance, core: Core): void {
  const path = '/v1/apps/:app/secrets';

  server.get(path, { config }, async (request) => ({
    secrets: list(appOf(core, request), queryOf(request).show_secrets === 'true'),
  }));

  server.post(path, { config }, async (request) => {
    const values = optionalObject(bodyObject(request.body, 'main.updateAppSecretsRequest'), 'values');
    if (!values) throw invalidArgument('values is required');
    const parsed = Object.keys(values).map((name) => [name, optionalString(values, name)] as const);
    const app = appOf(core, request);
    const version = change(core, app, Object.fromEntries(parsed));
    return { secrets: list(app, false), version, Version: version };
  });

  server.get(`${path}/:name`, { config }, async (request) => {
    const show = queryOf(request).show_secrets === 'true';
    return view(paramsOf(request).name, find(appOf(core, request), paramsOf(request).name), show);
  });

  server.post(`${path}/:name`, { config }, async (request, reply) => {
    const { name } = paramsOf(request);
    const value = optionalString(bodyObject(request.body, 'main.setAppSecretRequest'), 'value');
    if (value === undefined) throw invalidArgument('value is required');
    const app = appOf(core, request);
    const version = change(core, app, { [name]: value });
    return reply.code(201).send({ ...view(name, find(app, name), false), version, Version: version });
  });

  server.delete(`${path}/:name`, { config }, async (request) => {
    const { name } = paramsOf(request);
    const app = appOf(core, request);
    find(app, name);
    const version = change(core, app, { [name]: undefined });
    return { version, Version: version };
  });
}

/** Names become names of environment variables. Throws 400. */
function checkName(name: string): void {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
    throw invalidArgument(`secret name: "${name}" is not letters, digits and underscores`);
  }
}

/** Undefined removes a secret. Machines see it at their next boot. */
function change(core: Core, app: AppRecord, values: Record<string, string | undefined>): number {
  Object.keys(values).forEach(checkName);
  const now = new Date(core.clock.now()).toISOString();
  core.apps.change(app, ({ secrets }) => {
    for (const [name, value] of Object.entries(values)) {
      const created_at = secrets.values[name]?.created_at ?? now;
      if (value === undefined) delete secrets.values[name];
      else
        secrets.values[name] = { value, digest: sha256Hex(value).slice(0, 16), created_at, updated_at: now };
    }
    secrets.version += 1;
  });
  return app.secrets.version;
}

function find(app: AppRecord, name: string): Secret {
  const secret = app.secrets.values[name];
  if (!secret) throw new FlyError(404, `not_found: secret ${name} not found`);
  return secret;
}

function list(app: AppRecord, show: boolean) {
  return Object.entries(app.secrets.values).map(([name, secret]) => view(name, secret, show));
}

function view(name: string, { value, ...rest }: Secret, show: boolean) {
  return { name, ...rest, ...(show ? { value } : {}) };
}
