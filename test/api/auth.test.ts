import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PUBLIC_ROUTES } from '../../controller/api/auth.ts';
import { CodedError } from '../../controller/errors.ts';
import { API_KEY, Harness, REVOKED_KEY } from './support/harness.ts';

let harness: Harness;
let now = 1_000_000;
let away = false;

beforeAll(async () => {
  harness = await Harness.start((deps) => ({
    ...deps,
    clock: () => now,
    store: {
      ...deps.store,
      checkApiKey: async (sha256) => {
        const found = await deps.store.checkApiKey(sha256);
        if (away) throw new CodedError('database_unavailable', 'away');
        return found;
      },
    },
  }));
});
afterAll(() => harness.close());

/** Every route there is, as the OpenAPI document has them, with something at the place of each parameter. */
async function allRoutes(): Promise<{ method: string; path: string }[]> {
  const { paths } = await harness.json('/openapi.json');
  return Object.entries<object>(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => ({ method: method.toUpperCase(), path })),
  );
}

const concrete = (path: string) => path.replaceAll(/\{\w+\}/g, 'x');

const headersOf = {
  'without a key': {},
  'with a key that is not known': { authorization: 'Bearer mvk_someone_elses_key' },
  'with a revoked key': { authorization: `Bearer ${REVOKED_KEY}` },
  'with another scheme': { authorization: `Basic ${btoa(API_KEY)}` },
  'with an empty key': { authorization: 'Bearer ' },
};

describe.each(Object.entries(headersOf))('%s', (_what, headers) => {
  test('every route but the public ones answers 401', async () => {
    const routes = await allRoutes();
    expect(routes.length).toBeGreaterThan(25);
    for (const { method, path } of routes) {
      const response = await fetch(harness.url + concrete(path), { method, headers });
      const name = `${method} ${path}`;
      if (PUBLIC_ROUTES.has(name)) {
        expect([name, response.status]).toEqual([name, 200]);
        await response.arrayBuffer();
        continue;
      }
      expect([name, response.status]).toEqual([name, 401]);
      expect(response.headers.get('www-authenticate')).toBe('Bearer');
      expect(response.headers.get('content-type')).toContain('application/problem+json');
      expect(await response.json()).toMatchObject({ code: 'unauthorized', kind: 'mistake' });
    }
  });

  test('unknown routes and other methods of public ones answer 401, too', async () => {
    for (const [method, path] of [
      ['GET', '/'],
      ['GET', '/v1/agent'],
      ['POST', '/healthz'],
      ['GET', '/healthz/'],
      ['GET', '//metrics'],
    ]) {
      const response = await fetch(harness.url + path, { method: method!, headers });
      expect([method, path, response.status]).toEqual([method, path, 401]);
      await response.arrayBuffer();
    }
  });
});

test('the public routes are these four', () => {
  expect([...PUBLIC_ROUTES].sort()).toEqual([
    'GET /healthz',
    'GET /metrics',
    'GET /openapi.json',
    'GET /readyz',
  ]);
});

test('a good answer about a key stands for 30 s, then the database is asked again', async () => {
  const ask = async () => (await harness.fetch('/v1/sessions')).status;
  now += 60_000;
  const before = harness.fake.keyChecks;
  expect(await ask()).toBe(200);
  now += 29_000;
  expect(await ask()).toBe(200);
  expect(harness.fake.keyChecks).toBe(before + 1);
  now += 2_000;
  expect(await ask()).toBe(200);
  expect(harness.fake.keyChecks).toBe(before + 2);
});

test('while the database is away a key that was good stands for 10 minutes, no other does', async () => {
  const ask = async (key = API_KEY) =>
    (await harness.fetch('/v1/jobs', { headers: { authorization: `Bearer ${key}` } })).status;
  now += 60_000;
  expect(await ask()).toBe(200);
  away = true;
  try {
    now += 60_000;
    const before = harness.fake.keyChecks;
    expect([await ask(), await ask(), await ask()]).toEqual([200, 200, 200]);
    expect(harness.fake.keyChecks).toBe(before + 1);
    expect(await ask(REVOKED_KEY)).toBe(503);
    now += 539_999;
    expect(await ask()).toBe(200);
    now += 5_001;
    expect(await ask()).toBe(503);
  } finally {
    away = false;
  }
  expect(await ask()).toBe(200);
});

test('no answer and no log line holds a key', async () => {
  const response = await harness.fetch('/v1/sessions', {
    headers: { authorization: `Bearer ${REVOKED_KEY}` },
  });
  expect(await response.text()).not.toContain(REVOKED_KEY);
  await harness.fetch(`/v1/sessions/demo/files?path=${API_KEY}`);
  expect(harness.fake.logLines.length).toBeGreaterThan(0);
  expect(harness.fake.logLines.join('')).not.toMatch(/mvk_/);
});
