import { afterEach, beforeEach, expect, test } from 'vitest';
import { Harness } from './support/harness.ts';

let harness: Harness;

beforeEach(async () => {
  harness = await Harness.start();
});
afterEach(() => harness.close());

const create = (body: object, headers: Record<string, string> = {}) =>
  harness.fetch('/v1/sessions', { method: 'POST', body: JSON.stringify(body), headers });

test('creating answers 201, repeating 200 with the same session, other settings 409', async () => {
  const first = await create({ id: 'a', region: 'sjc' });
  expect(first.status).toBe(201);
  const session = await first.json();
  expect(session).toMatchObject({ id: 'a', status: 'ready', settings: { region: 'sjc' } });
  const again = await create({ id: 'a', region: 'sjc' });
  expect([again.status, await again.json()]).toEqual([200, session]);
  const other = await create({ id: 'a', region: 'ams' });
  expect([other.status, (await other.json()).code]).toEqual([409, 'session_conflict']);
});

test('an Idempotency-Key stands for an id', async () => {
  const first = await (await create({}, { 'idempotency-key': 'order 66?'.replaceAll(' ', '-') })).json();
  const again = await create({}, { 'idempotency-key': 'order-66?' });
  expect(again.status).toBe(200);
  expect(first.id).toMatch(/^i-[0-9a-f]{32}$/);
  expect((await again.json()).id).toBe(first.id);
  expect((await create({}, { 'idempotency-key': 'x'.repeat(256) })).status).toBe(400);
});

test('without an id each call makes a new session, whose id sorts by time', async () => {
  const ids = [];
  for (let i = 0; i < 3; i++) ids.push((await (await create({})).json()).id);
  expect(new Set(ids).size).toBe(3);
  for (const id of ids) expect(id).toMatch(/^[a-z0-9]{20}$/);
});

test('nothing inside shows: no fence, owner, token or lease', async () => {
  const session = await (await create({ id: 'a' })).json();
  expect(session).not.toHaveProperty('fence');
  const body = JSON.stringify({ session_id: 'a', command: 'ls', env: { A: 'b' } });
  const job = await (await harness.fetch('/v1/jobs', { method: 'POST', body })).json();
  expect(job).toMatchObject({ session_id: 'a', command: 'ls', env: { A: 'b' }, status: 'queued' });
  for (const field of ['owner', 'token', 'lease_until', 'spec']) expect(job).not.toHaveProperty(field);
});

test('the event log learns which key it was', async () => {
  await create({ id: 'a' });
  expect(harness.fake.actors).toEqual(['api:k1']);
});

test('pages are complete and stable while rows come and go', async () => {
  for (const id of ['a', 'b', 'c', 'd', 'e']) await harness.fake.open(id);
  const list = (query: string) => harness.json(`/v1/sessions?${query}`);
  const first = await list('limit=2');
  expect(first.items.map((row: { id: string }) => row.id)).toEqual(['a', 'b']);
  await harness.fake.open('aa');
  await harness.fake.stop('b');
  harness.fake.sessions.delete('b');
  const second = await list(`limit=2&cursor=${first.next_cursor}`);
  expect(second.items.map((row: { id: string }) => row.id)).toEqual(['c', 'd']);
  const last = await list(`limit=2&cursor=${second.next_cursor}`);
  expect(last.items.map((row: { id: string }) => row.id)).toEqual(['e']);
  expect(last.next_cursor).toBeNull();
});

test('a full last page has no next one', async () => {
  for (const id of ['a', 'b']) await harness.fake.open(id);
  expect((await (await harness.fetch('/v1/sessions?limit=2')).json()).next_cursor).toBeNull();
});

test('stop, open and save answer the session and the version', async () => {
  await create({ id: 'a' });
  const post = async (path: string) => (await harness.fetch(path, { method: 'POST' })).json();
  expect(await post('/v1/sessions/a/save')).toEqual({ version: 1, changed: true, files: 2, bytes: 3 });
  expect(await post('/v1/sessions/a/stop')).toMatchObject({ status: 'stopped', sandbox_id: null });
  expect(await post('/v1/sessions/a/save')).toMatchObject({ code: 'session_not_open' });
  expect(await post('/v1/sessions/a/open?wait_ms=1000')).toMatchObject({ status: 'ready', incarnation: 2 });
});

test('readiness names what does not answer, fails where the database is meant, and asks no more often than every 2 s', async () => {
  let now = 0;
  const other = await Harness.start((deps) => ({ ...deps, clock: () => now }));
  try {
    const ready = async () => {
      const response = await fetch(`${other.url}/readyz`);
      return [response.status, await response.json()];
    };
    const checks = { database: 'ok', fly: 'ok', storage: 'ok', egress: 'ok' };
    expect(await ready()).toEqual([200, { ready: true, degraded: [], checks }]);
    Object.assign(other.fake.healthy, { fly: false, egress: false });
    expect(await ready()).toMatchObject([200, { degraded: [] }]);
    now += 2_001;
    expect(await ready()).toEqual([
      200,
      { ready: true, degraded: ['fly', 'egress'], checks: { ...checks, fly: 'failed', egress: 'failed' } },
    ]);
    Object.assign(other.fake.healthy, { fly: true, egress: true, storage: false, database: false });
    now += 2_001;
    expect(await ready()).toMatchObject([503, { ready: false, degraded: ['storage'] }]);
    expect((await fetch(`${other.url}/healthz`)).status).toBe(200);
  } finally {
    await other.close();
  }
});

test('metrics count requests by route and errors by code', async () => {
  await harness.fetch('/v1/sessions/nobody');
  await expect
    .poll(async () => (await fetch(`${harness.url}/metrics`)).text())
    .toMatch(/mobvibe_http_request_seconds_count\{method="GET",route="\/v1\/sessions\/:id",status="404"\} 1/);
  expect(await (await fetch(`${harness.url}/metrics`)).text()).toContain(
    'mobvibe_http_errors_total{code="session_not_found"} 1',
  );
});
