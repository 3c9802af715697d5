import { describe, expect, test } from 'vitest';
import { createMachines } from '../../controller/sessions/machines.ts';
import { createFlyClient } from '../../fly/index.ts';
import { type Bench, config, startBench, token } from './harness.ts';

const day = 24 * 3_600_000;
const rules = [{ action: 'allow', direction: 'ingress', ports: [] }];

async function deployToken(bench: Bench, app: string, expiry = '24h'): Promise<string> {
  await bench.call('POST', '/v1/apps', { name: app });
  const { body } = await bench.call('POST', `/v1/apps/${app}/deploy_token`, { expiry });
  expect(body.token).toMatch(/^FlyV1 fm2_/);
  return body.token;
}

/** Calls with these tokens; resolves with the status. */
function caller({ call }: Bench, authorization: string) {
  return async (method: string, path: string, body?: unknown) =>
    (await call(method, path, body, { authorization })).status;
}

test('every route but the regions wants a token', async () => {
  const bench = await startBench();
  for (const path of ['/v1/apps', '/v1/apps/a1/machines', '/v1/nothing', '/local/faults', '/graphql']) {
    const wrong = await bench.call('GET', path, undefined, { authorization: 'Bearer wrong' });
    expect([path, wrong.status]).toEqual([path, 401]);
    expect((await fetch(bench.fly.url + path)).status).toBe(401);
  }
  expect((await fetch(`${bench.fly.url}/v1/platform/regions`)).status).toBe(200);
  expect(await caller(bench, `FlyV1 ${token}`)('GET', '/v1/apps')).toBe(200);
});

describe('a deploy token', () => {
  test('does what is inside its app', async () => {
    const bench = await startBench();
    const as = caller(bench, await deployToken(bench, 'a1'));
    const { id } = await bench.create({ skip_launch: true });
    const done = [
      await as('GET', '/v1/apps/a1'),
      await as('POST', '/v1/apps/a1/machines', { config }),
      await as('GET', `/v1/apps/a1/machines/${id}`),
      await as('POST', `/v1/apps/a1/machines/${id}/lease`),
      await as('POST', '/v1/apps/a1/secrets', { values: { A: '1' } }),
      await as('POST', '/v1/apps/a1/network_policies', { name: 'p', rules }),
      await as('POST', '/v1/apps/a1/ip_assignments', { type: 'shared_v4' }),
    ];
    expect(done).toEqual([200, 200, 200, 201, 200, 201, 200]);
  });

  test.each([
    ['another app', 'GET', '/v1/apps/a2'],
    ['machines of another app', 'GET', '/v1/apps/a2/machines'],
    ['a machine in another app', 'POST', '/v1/apps/a2/machines'],
    ['secrets of another app', 'POST', '/v1/apps/a2/secrets'],
    ['an app that is not there', 'GET', '/v1/apps/a3'],
    ['the list of apps', 'GET', '/v1/apps'],
    ['a new app', 'POST', '/v1/apps'],
    ['the end of its app', 'DELETE', '/v1/apps/a1'],
    ['another token', 'POST', '/v1/apps/a1/deploy_token'],
    ['machines of the organisation', 'GET', '/v1/orgs/personal/machines'],
    ['faults of local Fly', 'GET', '/local/faults'],
  ])('is refused %s', async (_what, method, path) => {
    const bench = await startBench();
    const authorization = await deployToken(bench, 'a1');
    await bench.call('POST', '/v1/apps', { name: 'a2' });
    const body = method === 'POST' ? { name: 'a9', config, expiry: '1h', values: {} } : undefined;
    const refused = await bench.call(method, path, body, { authorization });
    expect(refused).toMatchObject({ status: 403, body: { error: expect.stringMatching(/^not authorized/) } });
  });

  test('ends with its time, and with its app', async () => {
    const bench = await startBench();
    const short = caller(bench, await deployToken(bench, 'a1', '1h'));
    const long = caller(bench, await deployToken(bench, 'a1', '48h'));
    expect([await short('GET', '/v1/apps/a1'), await long('GET', '/v1/apps/a1')]).toEqual([200, 200]);
    await bench.clock.advance(3_600_000);
    expect([await short('GET', '/v1/apps/a1'), await long('GET', '/v1/apps/a1')]).toEqual([401, 200]);
    await bench.call('DELETE', '/v1/apps/a1');
    await bench.call('POST', '/v1/apps', { name: 'a1' });
    expect(await long('GET', '/v1/apps/a1')).toBe(401);
  });
});

test('several tokens may do what any of them may, under either scheme', async () => {
  const bench = await startBench();
  const one = await deployToken(bench, 'a1');
  const two = await deployToken(bench, 'a2', '1h');
  await bench.call('POST', '/v1/apps', { name: 'a3' });
  const list = `${one},${two.replace('FlyV1 ', '')}`;
  const reached = async (authorization: string) => {
    const as = caller(bench, authorization);
    return [await as('GET', '/v1/apps/a1'), await as('GET', '/v1/apps/a2'), await as('GET', '/v1/apps/a3')];
  };
  expect(await reached(list)).toEqual([200, 200, 403]);
  expect(await reached(list.replace('FlyV1', 'Bearer'))).toEqual([200, 200, 403]);
  // As with the discharges that `fly tokens create` prints beside the token.
  expect(await reached(`${one},fm2_unknown`)).toEqual([200, 403, 403]);
  await bench.clock.advance(3_600_000);
  expect(await reached(list)).toEqual([200, 403, 403]);
  await bench.clock.advance(day);
  expect(await reached(list)).toEqual([401, 401, 401]);
});

test("an organisation's token works in this organisation alone", async () => {
  const bench = await startBench({ tokens: [token, { token: 'FlyV1 fm2_acme', org: 'acme' }] });
  await bench.call('POST', '/v1/apps', { name: 'a1' });
  const as = caller(bench, 'FlyV1 fm2_acme');
  expect(await as('POST', '/v1/apps', { name: 'ours', org_slug: 'acme' })).toBe(201);
  expect(await as('POST', '/v1/apps/ours/machines', { config })).toBe(200);
  expect(await as('POST', '/v1/apps/ours/deploy_token', { expiry: '1h' })).toBe(200);
  const { body } = await bench.call('GET', '/v1/apps', undefined, { authorization: 'FlyV1 fm2_acme' });
  expect(body.apps.map(({ name }: { name: string }) => name)).toEqual(['ours']);
  const refused = [
    await as('GET', '/v1/apps/a1'),
    await as('POST', '/v1/apps', { name: 'a2' }),
    await as('GET', '/v1/apps?org_slug=personal'),
    await as('GET', '/v1/orgs/personal/machines'),
  ];
  expect(refused).toEqual([403, 403, 403, 403]);
  expect(await as('GET', '/v1/apps/nobodys')).toBe(404);
});

test('every call of the controller on its cells works with their tokens alone', async () => {
  const bench = await startBench();
  const tokens = [await deployToken(bench, 'cell-1'), await deployToken(bench, 'cell-2')];
  const list = `FlyV1 ${tokens.map((one) => one.replace('FlyV1 ', '')).join(',')}`;
  const fly = createFlyClient({ token: list, baseUrl: bench.fly.url });
  try {
    for (const cellApp of ['cell-1', 'cell-2']) {
      const machines = createMachines(fly, {
        cellApps: [cellApp],
        stack: 'test',
        agentSecret: 'a-secret-of-at-least-32-characters!',
        sandboxImage: 'sandbox:1',
        agentDialUrl: 'ws://controller.flycast:8081/v1/agent',
        egressProxyUrl: undefined,
        agentOrphanTimeoutMs: 60_000,
      });
      const signal = AbortSignal.timeout(10_000);
      await machines.ping();
      const settings = { region: 'sjc', cpu_kind: 'shared', cpus: 1, memory_mb: 256 } as never;
      const sandbox = { name: 's-one-1', session_id: 'one', app: cellApp, fence: 1 };
      const { id } = await machines.create(sandbox, settings, { timeoutMs: 5_000, signal });
      expect((await machines.list(cellApp, signal)).map((machine) => machine.id)).toEqual([id]);
      expect(await machines.find(cellApp, 's-one-1')).toMatchObject({ id });
      expect(await machines.get(cellApp, id)).toMatchObject({ id });
      await bench.settle();
      const destroyed = machines.destroy(cellApp, id, { waitMs: 5_000, signal });
      await expect
        .poll(async () => (await bench.call('GET', `/v1/apps/${cellApp}/machines/${id}`)).body.state)
        .toMatch(/destroy/);
      await bench.settle();
      await destroyed;
      expect(await machines.get(cellApp, id)).toMatchObject({ state: 'destroyed' });
    }
  } finally {
    fly.close();
  }
});
