import { request } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Problem } from '../../controller/errors.ts';
import { API_KEY, Harness } from './support/harness.ts';

let harness: Harness;

beforeAll(async () => {
  harness = await Harness.start((deps) => ({
    ...deps,
    store: {
      ...deps.store,
      listSessionEvents: async () => {
        throw new Error('password=hunter2 in a stack trace');
      },
    },
  }));
  await harness.fake.open('demo');
});
afterAll(() => harness.close());

interface Case {
  what: string;
  method?: string;
  path: string;
  body?: string;
  type?: string;
  status: number;
  code: string;
  field?: string;
  detail?: RegExp;
}

const EXEC = '/v1/sessions/demo/execs/e1';
const put = (what: string, body: unknown, expected: Omit<Case, 'what' | 'path' | 'body'>): Case => ({
  what,
  method: 'PUT',
  path: EXEC,
  body: typeof body === 'string' ? body : JSON.stringify(body),
  ...expected,
});
const post = (
  what: string,
  path: string,
  body: unknown,
  expected: Omit<Case, 'what' | 'path' | 'body'>,
): Case => ({
  ...put(what, body, expected),
  method: 'POST',
  path,
});
const get = (what: string, path: string, expected: Omit<Case, 'what' | 'path'>): Case => ({
  what,
  path,
  ...expected,
});

const cases: Case[] = [
  put('a body that is not JSON', '{"command": ', { status: 400, code: 'invalid_json' }),
  put('an empty body', '', { status: 400, code: 'invalid_json' }),
  put('a body of another type', 'x', {
    type: 'text/plain',
    status: 400,
    code: 'invalid_request',
    field: 'content-type',
  }),
  put('a body over 1 MiB', { command: 'x'.repeat(1_100_000) }, { status: 413, code: 'body_too_large' }),
  put('a list as the body', [], { status: 400, code: 'invalid_request' }),
  put(
    'no command',
    {},
    { status: 400, code: 'invalid_request', field: 'command', detail: /command is missing/ },
  ),
  put('an empty command', { command: '' }, { status: 400, code: 'invalid_command', field: 'command' }),
  put('an empty list', { command: [] }, { status: 400, code: 'invalid_command', field: 'command' }),
  put('a blank command', { command: ['  '] }, { status: 400, code: 'invalid_command', field: 'command' }),
  put(
    'NUL in a command',
    { command: ['ls', 'a\0b'] },
    { status: 400, code: 'invalid_command', detail: /command\.1/ },
  ),
  put(
    'NUL in a value',
    { command: 'env', env: { A: 'hunter2\0' } },
    { status: 400, code: 'invalid_request', field: 'env' },
  ),
  put(
    '"=" in a name',
    { command: 'env', env: { 'A=B': 'hunter2' } },
    { status: 400, code: 'invalid_request', field: 'env' },
  ),
  put(
    'a number as a value',
    { command: 'env', env: { A: 7 } },
    { status: 400, code: 'invalid_request', field: 'env.A' },
  ),
  put(
    'a deadline of 0',
    { command: 'ls', timeout_ms: 0 },
    { status: 400, code: 'invalid_request', field: 'timeout_ms', detail: /timeout_ms is 0/ },
  ),
  put(
    'a deadline as text',
    { command: 'ls', timeout_ms: '5' },
    { status: 400, code: 'invalid_request', field: 'timeout_ms' },
  ),
  put(
    'a field that is not known',
    { command: 'ls', shell: true },
    { status: 400, code: 'invalid_request', field: 'shell', detail: /not a field/ },
  ),
  put(
    'a command that does not exist',
    { command: ['/no/such/program'] },
    { status: 400, code: 'command_not_found' },
  ),
  post(
    'an id with odd characters',
    '/v1/sessions',
    { id: 'My Session!' },
    { status: 400, code: 'invalid_id', field: 'id', detail: /My Session!/ },
  ),
  post(
    'another kind of CPU',
    '/v1/sessions',
    { cpu_kind: 'quantum' },
    {
      status: 400,
      code: 'invalid_request',
      field: 'cpu_kind',
      detail: /"quantum": must be one of "shared", "performance"/,
    },
  ),
  post(
    'an odd session of a job',
    '/v1/jobs',
    { session_id: '../x', command: 'ls' },
    { status: 400, code: 'invalid_id', field: 'session_id' },
  ),
  post(
    'a job of no session',
    '/v1/jobs',
    { session_id: 'nobody', command: 'ls' },
    { status: 404, code: 'session_not_found' },
  ),
  post(
    'a job with an empty command',
    '/v1/jobs',
    { session_id: 'demo', command: '' },
    { status: 400, code: 'invalid_command' },
  ),
  get('an odd id in the path', '/v1/sessions/A%20b', { status: 400, code: 'invalid_id', field: 'id' }),
  get('an id that is too long', `/v1/sessions/${'a'.repeat(300)}`, {
    status: 400,
    code: 'invalid_id',
    field: 'id',
  }),
  get('an odd exec id', '/v1/sessions/demo/execs/a.b', { status: 400, code: 'invalid_id', field: 'exec_id' }),
  get('a path that is not well-formed', '/v1/sessions/%zz', { status: 400, code: 'invalid_request' }),
  get('an unknown session', '/v1/sessions/nobody', { status: 404, code: 'session_not_found' }),
  get('an unknown exec', '/v1/sessions/demo/execs/none', { status: 404, code: 'exec_not_found' }),
  get('an unknown job', '/v1/jobs/none', { status: 404, code: 'job_not_found' }),
  get('an unknown route', '/v1/nothing', {
    status: 404,
    code: 'route_not_found',
    detail: /GET \/v1\/nothing/,
  }),
  get('a file that is not there', '/v1/sessions/demo/files?path=none', {
    status: 404,
    code: 'file_not_found',
  }),
  get('a path outside', '/v1/sessions/demo/files?path=../../etc/passwd', {
    status: 403,
    code: 'path_outside',
  }),
  get('no path', '/v1/sessions/demo/files', { status: 400, code: 'invalid_request', field: 'path' }),
  get('an odd limit', '/v1/sessions?limit=many', {
    status: 400,
    code: 'invalid_request',
    field: 'limit',
    detail: /"many"/,
  }),
  get('a limit of 0', '/v1/sessions?limit=0', { status: 400, code: 'invalid_request', field: 'limit' }),
  get('an odd cursor', '/v1/sessions?cursor=abc', { status: 400, code: 'invalid_request', field: 'cursor' }),
  get('an odd offset', '/v1/sessions/demo/execs/e/output?stdout=-1', {
    status: 400,
    code: 'invalid_request',
    field: 'stdout',
  }),
  get('an unknown query', '/v1/sessions?colour=red', {
    status: 400,
    code: 'invalid_request',
    field: 'colour',
  }),
];

test.each(cases)('$what → $status $code', async ({ method = 'GET', path, body, type, ...expected }) => {
  const response = await harness.fetch(path, {
    method,
    ...(body === undefined ? {} : { body, headers: { 'content-type': type ?? 'application/json' } }),
  });
  const problem = (await response.json()) as Problem;
  expect(problem).toMatchObject({ status: expected.status, code: expected.code });
  expect(response.status).toBe(expected.status);
  expect(response.headers.get('content-type')).toContain('application/problem+json');
  expect(problem.type).toBe(`urn:mobvibe:error:${expected.code}`);
  if (expected.field) expect(problem.field).toBe(expected.field);
  if (expected.detail) expect(problem.detail).toMatch(expected.detail);
  expect(JSON.stringify(problem)).not.toContain('hunter2');
});

describe('what the controller does not know', () => {
  test('is told as internal, without a word of the inside, and logged', async () => {
    const response = await harness.fetch('/v1/sessions/demo/events');
    const text = await response.text();
    expect(response.status).toBe(500);
    expect(JSON.parse(text)).toMatchObject({ code: 'internal', kind: 'unknown' });
    expect(text).not.toMatch(/hunter2|stack/);
    expect(harness.fake.logLines.some((line) => line.includes('"level":50'))).toBe(true);
  });

  test('a body that is shorter than announced does not hang the route', async () => {
    const outcome = Promise.withResolvers<string>();
    const outgoing = request(`${harness.url}${EXEC}`, {
      method: 'PUT',
      headers: {
        authorization: `Bearer ${API_KEY}`,
        'content-type': 'application/json',
        'content-length': 100,
      },
    });
    outgoing.on('error', (error) => outcome.resolve(error.message));
    outgoing.on('response', (response) => outcome.resolve(String(response.statusCode)));
    outgoing.write('{"command":"true"');
    setTimeout(() => outgoing.destroy(new Error('left')), 50);
    expect(await outcome.promise).toBe('left');
    expect((await harness.fetch('/v1/sessions/demo')).status).toBe(200);
  });
});

test('what is no HTTP is answered as a problem, too', async () => {
  const { hostname, port } = new URL(harness.url);
  const socket = connect(Number(port), hostname);
  socket.end('GET /v1/sessions/a b HTTP/1.1\r\n\r\n');
  const [head, body] = (await text(socket)).split('\r\n\r\n');
  expect(head).toMatch(/^HTTP\/1.1 400 [\s\S]*application\/problem\+json/);
  expect(JSON.parse(body!)).toMatchObject({ code: 'invalid_request', status: 400, kind: 'mistake' });
});
