import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Harness } from './support/harness.ts';

interface Operation {
  summary?: string;
  tags?: string[];
  responses: Record<string, { content?: Record<string, { schema: object }> }>;
  parameters?: { name: string; in: string }[];
}

let harness: Harness;
let document: {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
};

beforeAll(async () => {
  harness = await Harness.start();
  document = await harness.json('/openapi.json');
});
afterAll(() => harness.close());

const operations = () =>
  Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      name: `${method.toUpperCase()} ${path}`,
      path,
      operation,
    })),
  );

test('it is OpenAPI 3.1 and every schema in it is JSON Schema 2020-12', () => {
  expect(document.openapi).toBe('3.1.0');
  const ajv = new Ajv2020({ strict: false });
  for (const { name, operation } of operations()) {
    for (const { content = {} } of Object.values(operation.responses)) {
      for (const { schema } of Object.values(content)) {
        expect(ajv.validateSchema(schema), `${name}: ${JSON.stringify(ajv.errors)}`).toBe(true);
      }
    }
  }
});

test('every route says what it does, what it takes and what it answers', () => {
  for (const { name, path, operation } of operations()) {
    expect(operation.summary, name).toMatch(/\w{3}/);
    expect(operation.tags, name).toHaveLength(1);
    const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, parameter]) => parameter);
    const described = (operation.parameters ?? []).filter((one) => one.in === 'path').map((one) => one.name);
    expect([name, described]).toEqual([name, inPath]);
    if (path.startsWith('/v1/')) {
      expect(operation.responses.default?.content, name).toHaveProperty(['application/problem+json']);
    }
  }
});

test.each([
  'POST /v1/sessions',
  'GET /v1/sessions',
  'GET /v1/sessions/{id}',
  'POST /v1/sessions/{id}/open',
  'POST /v1/sessions/{id}/stop',
  'POST /v1/sessions/{id}/save',
  'GET /v1/sessions/{id}/events',
  'PUT /v1/sessions/{id}/execs/{exec_id}',
  'GET /v1/sessions/{id}/execs',
  'GET /v1/sessions/{id}/execs/{exec_id}',
  'GET /v1/sessions/{id}/execs/{exec_id}/output',
  'POST /v1/sessions/{id}/execs/{exec_id}/stdin',
  'POST /v1/sessions/{id}/execs/{exec_id}/signal',
  'GET /v1/sessions/{id}/files',
  'PUT /v1/sessions/{id}/files',
  'DELETE /v1/sessions/{id}/files',
  'GET /v1/sessions/{id}/files/stat',
  'GET /v1/sessions/{id}/files/list',
  'POST /v1/sessions/{id}/files/mkdir',
  'POST /v1/sessions/{id}/files/move',
  'POST /v1/sessions/{id}/files/symlink',
  'POST /v1/jobs',
  'GET /v1/jobs',
  'GET /v1/jobs/{id}',
  'GET /v1/jobs/{id}/logs',
  'POST /v1/jobs/{id}/cancel',
  'GET /healthz',
  'GET /readyz',
  'GET /metrics',
])('it has %s', (name) => {
  expect(operations().map((operation) => operation.name)).toContain(name);
});

test('what routes answer is what the document says', async () => {
  const ajv = new Ajv2020({ strict: false });
  const matches = async (name: string, response: Pick<Response, 'status' | 'json'>) => {
    const { operation } = operations().find((one) => one.name === name)!;
    const { schema } = Object.values(operation.responses[String(response.status)]!.content!)[0]!;
    const body = await response.json();
    expect(ajv.validate(schema, body), `${name}: ${JSON.stringify([ajv.errors, body])}`).toBe(true);
  };
  const put = (path: string, value: object) =>
    harness.fetch(path, { method: 'PUT', body: JSON.stringify(value) });
  const post = (path: string, value: object) =>
    harness.fetch(path, { method: 'POST', body: JSON.stringify(value) });
  await matches('POST /v1/sessions', await post('/v1/sessions', { id: 'one' }));
  await matches('GET /v1/sessions', await harness.fetch('/v1/sessions'));
  await matches('GET /v1/sessions/{id}', await harness.fetch('/v1/sessions/one'));
  await matches(
    'PUT /v1/sessions/{id}/execs/{exec_id}',
    await put('/v1/sessions/one/execs/e1', { command: 'true' }),
  );
  await matches('GET /v1/sessions/{id}/execs', await harness.fetch('/v1/sessions/one/execs'));
  await matches('POST /v1/jobs', await post('/v1/jobs', { session_id: 'one', command: ['true'] }));
  await matches('GET /v1/jobs', await harness.fetch('/v1/jobs'));
  await matches('GET /readyz', await harness.fetch('/readyz'));
});

test('the SDK imports nothing but types from the controller, and nothing from npm', async () => {
  const require = createRequire(import.meta.url);
  const files = ['deadline', 'errors', 'exec-handle', 'exec-outcome', 'execs', 'files', 'follow', 'jobs'];
  for (const file of [...files, 'mobvibe', 'ndjson', 'retry', 'sessions', 'stdin', 'transport', 'tree']) {
    const text = await readFile(require.resolve(`../../client/${file}.ts`), 'utf8');
    const values = [...text.matchAll(/^import (?!type )[^;]*? from '([^']+)'/gms)].map(([, from]) => from!);
    for (const from of values) expect(from).toMatch(/^(node:|\.\/)/);
  }
});
