import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import { expect, test } from 'vitest';
import { type Bench, config, startBench } from './harness.ts';

interface Schema {
  properties?: Record<string, Schema>;
  additionalProperties?: unknown;
}

interface Description {
  paths: Record<string, Record<string, Record<string, { schema?: Schema }>>>;
  schemas: Record<string, Schema>;
}

/** What Fly sends (measured, or in its official client) but its description leaves out. */
const undocumented: Record<string, string[]> = {
  App: ['created_at'],
  Machine: ['version', 'cordoned'],
  'main.regionResponse': ['Regions', 'Nearest'],
};

const description = JSON.parse(
  readFileSync(new URL('machines-openapi.json', import.meta.url), 'utf8'),
) as Description;

/** Strict: a field that the description does not know fails, unless it is listed above. */
const ajv = new Ajv({ strict: false, allErrors: true });
const schemas = Object.fromEntries(
  Object.entries(description.schemas).map(([name, schema]) => [name, closed(name, schema)]),
);
ajv.addSchema({ $id: 'fly', components: { schemas } });

function closed(name: string, schema: Schema): Schema {
  if (!schema.properties || schema.additionalProperties !== undefined) return schema;
  const extras = Object.fromEntries((undocumented[name] ?? []).map((field) => [field, {}]));
  return { ...schema, properties: { ...schema.properties, ...extras }, additionalProperties: false };
}

const seen = new Set<string>();

async function check(bench: Bench, operation: string, url: string, status: number, body?: unknown) {
  const [method = '', path = ''] = operation.split(' ');
  const responses = description.paths[path]?.[method.toLowerCase()];
  expect(responses, `${operation} is in the description`).toBeDefined();
  const answer = await bench.call(method, `/v1${url}`, body);
  expect([operation, answer.status, answer.body?.error]).toEqual([operation, status, answer.body?.error]);
  seen.add(operation);
  expect(Object.keys(responses!), `${operation} documents ${status}`).toContain(String(status));
  const schema = responses![status]?.schema;
  if (schema) {
    const text = JSON.stringify(schema).replaceAll('"#/', '"fly#/');
    const valid = ajv.compile(JSON.parse(text));
    // The description leaves out the envelope that leases really come in (fly-go decodes `data`).
    const described = path.endsWith('/lease') ? answer.body.data : answer.body;
    expect(valid(described), `${operation}: ${ajv.errorsText(valid.errors)}`).toBe(true);
  }
  return answer.body;
}

test("every call's answer is as Fly's own description says", async () => {
  const bench = await startBench();
  const app = '/apps/{app_name}';
  const one = `${app}/machines/{machine_id}`;
  await check(bench, 'POST /apps', '/apps', 201, { app_name: 'a1' });
  await check(bench, 'GET /apps', '/apps', 200);
  await check(bench, `GET ${app}`, '/apps/a1', 200);
  await check(bench, `POST ${app}/deploy_token`, '/apps/a1/deploy_token', 200, { expiry: '1h' });
  const { ip } = await check(bench, `POST ${app}/ip_assignments`, '/apps/a1/ip_assignments', 200, {
    type: 'private_v6',
  });
  await check(bench, `GET ${app}/ip_assignments`, '/apps/a1/ip_assignments', 200);
  await check(bench, `DELETE ${app}/ip_assignments/{ip}`, `/apps/a1/ip_assignments/${ip}`, 204);
  await check(bench, `POST ${app}/secrets`, '/apps/a1/secrets', 200, { values: { A: '1' } });
  await check(bench, `GET ${app}/secrets`, '/apps/a1/secrets?show_secrets=true', 200);
  await check(bench, `POST ${app}/secrets/{secret_name}`, '/apps/a1/secrets/B', 201, { value: '2' });
  await check(bench, `GET ${app}/secrets/{secret_name}`, '/apps/a1/secrets/B', 200);
  await check(bench, `DELETE ${app}/secrets/{secret_name}`, '/apps/a1/secrets/B', 200);
  await check(bench, 'GET /platform/regions', '/platform/regions', 200);

  const full = {
    ...config,
    env: { A: '1' },
    init: { exec: ['/bin/agent'] },
    guest: { cpu_kind: 'shared', cpus: 2, memory_mb: 1024 },
    metadata: { session: '1' },
    stop_config: { signal: 'SIGTERM', timeout: '10s' },
    restart: { policy: 'on-failure', max_retries: 1 },
  };
  const machine = { name: 'm1', config: full, lease_ttl: 5, region: 'ams' };
  const { id } = await check(bench, `POST ${app}/machines`, '/apps/a1/machines', 200, machine);
  const url = `/apps/a1/machines/${id}`;
  await bench.settle();
  await check(bench, `GET ${app}/machines`, '/apps/a1/machines', 200);
  await check(bench, `GET ${one}`, url, 200);
  await check(bench, `GET ${one}/wait`, `${url}/wait`, 200);
  await check(bench, `GET ${one}/wait`, `${url}/wait?timeout=99`, 400);
  await check(bench, `POST ${one}/exec`, `${url}/exec`, 200, { command: ['ls'] });
  await check(bench, `POST ${one}/exec`, `${url}/exec`, 400, {});
  await check(bench, `POST ${one}/signal`, `${url}/signal`, 400, { signal: 'x' });
  await check(bench, `POST ${one}/cordon`, `${url}/cordon`, 200);
  await check(bench, `POST ${one}/uncordon`, `${url}/uncordon`, 200);
  await check(bench, `PATCH ${one}/metadata`, `${url}/metadata`, 204, { metadata: { a: '1' } });
  await check(bench, `PUT ${one}/metadata`, `${url}/metadata`, 204, { metadata: { b: '1' } });
  await check(bench, `PUT ${one}/metadata`, `${url}/metadata`, 412, { metadata: {}, machine_version: 'x' });
  await check(bench, `POST ${one}/metadata/{key}`, `${url}/metadata/c`, 204, { value: '1' });
  await check(bench, `GET ${one}/metadata/{key}`, `${url}/metadata/c`, 200);
  await check(bench, `GET ${one}/metadata/{key}`, `${url}/metadata/none`, 404);
  await check(bench, `DELETE ${one}/metadata/{key}`, `${url}/metadata/c`, 204);
  await check(bench, `GET ${one}/metadata`, `${url}/metadata`, 200);
  await check(bench, `POST ${one}/suspend`, `${url}/suspend`, 200);
  await bench.settle();
  await check(bench, `POST ${one}/start`, `${url}/start`, 200);
  await bench.settle();
  await check(bench, `POST ${one}/restart`, `${url}/restart?timeout=5`, 200);
  await bench.settle();
  await check(bench, `POST ${one}`, url, 200, { config: full });
  await bench.settle();
  await check(bench, `POST ${one}/signal`, `${url}/signal`, 200, { signal: 'SIGKILL' });
  await bench.settle();
  await check(bench, `POST ${one}/stop`, `${url}/stop`, 200, { timeout: '5s' });
  await bench.settle();
  await check(bench, `GET ${one}/events`, `${url}/events`, 200);
  await check(bench, `GET ${one}/versions`, `${url}/versions`, 200);
  await check(bench, 'GET /orgs/{org_slug}/machines', '/orgs/personal/machines', 200);

  const lease = await check(bench, `POST ${one}/lease`, `${url}/lease`, 201, { ttl: 5 });
  await check(bench, `GET ${one}/lease`, `${url}/lease`, 200);
  const holder = { 'fly-machine-lease-nonce': lease.data.nonce };
  expect((await bench.call('DELETE', `/v1${url}/lease`, undefined, holder)).status).toBe(200);
  seen.add(`DELETE ${one}/lease`);
  await check(bench, `DELETE ${one}`, url, 200);
  await bench.settle();
  await check(bench, `DELETE ${app}`, '/apps/a1', 202);

  const operations = Object.entries(description.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  expect(operations.filter((operation) => !seen.has(operation))).toEqual([]);
});
