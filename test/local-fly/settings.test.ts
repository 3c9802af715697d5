import { describe, expect, test } from 'vitest';
import { startBench } from './harness.ts';

const machines = '/v1/apps/a1/machines';

describe('apps', () => {
  test('are created by either field, once, with a valid name', async () => {
    const { call } = await startBench();
    const created = await call('POST', '/v1/apps', { app_name: 'a1', org_slug: 'acme', network: 'net-1' });
    expect(created).toMatchObject({ status: 201, body: { name: 'a1', status: 'pending', network: 'net-1' } });
    expect(
      (await call('POST', '/v1/apps?wait=true', { name: 'a2', network: '', app_role_id: '' })).status,
    ).toBe(201);
    expect(await call('POST', '/v1/apps', { name: 'a1' })).toMatchObject({
      status: 422,
      body: { error: 'Validation failed: Name has already been taken', status: 'name_taken' },
    });
    expect(await call('POST', '/v1/apps', { name: 'No_Good' })).toMatchObject({
      status: 422,
      body: { error: 'Validation failed: Name under 63 chars using numbers, lowercase letters and dashes' },
    });
    expect((await call('GET', '/v1/apps?org_slug=acme')).body).toMatchObject({
      total_apps: 1,
      apps: [{ name: 'a1' }],
    });
    expect(await call('GET', '/v1/apps/none')).toMatchObject({
      status: 404,
      body: { error: 'Could not find App "none"' },
    });
  });

  test('deletion takes the machines along; the name stays taken until they are gone', async () => {
    const bench = await startBench();
    const id = await bench.createStarted();
    expect((await bench.call('DELETE', '/v1/apps/a1')).status).toBe(202);
    expect((await bench.call('GET', '/v1/apps/a1')).status).toBe(404);
    expect((await bench.call('POST', '/v1/apps', { name: 'a1' })).status).toBe(422);
    await bench.settle();
    expect([bench.engine.running.size, bench.engine.discarded]).toEqual([0, [id]]);
    expect((await bench.call('POST', '/v1/apps', { name: 'a1' })).status).toBe(201);
    expect((await bench.call('GET', `${machines}?include_deleted=true`)).body).toEqual([]);
  });
});

test('lists filter by state, region, metadata and summary', async () => {
  const bench = await startBench();
  const metadata = (session: string) => ({ image: 'i', metadata: { session, stack: 'x' } });
  const one = await bench.createStarted({ config: metadata('1'), region: 'ams' });
  const two = await bench.create({ config: metadata('2'), region: 'sjc' });
  const ids = async (query: string) =>
    (await bench.call('GET', `${machines}?${query}`)).body.map(({ id }: { id: string }) => id);
  expect(await ids('state=started,stopped')).toEqual([one]);
  expect(await ids('region=sjc')).toEqual([two.id]);
  expect(await ids('metadata.session=2')).toEqual([two.id]);
  expect(await ids('metadata.session=2&metadata.stack=y')).toEqual([]);
  expect(await ids('metadata.stack=x')).toEqual([one, two.id]);
  const [summary] = (await bench.call('GET', `${machines}?summary=true`)).body;
  for (const field of ['config', 'events', 'checks', 'host_status'])
    expect(summary).not.toHaveProperty(field);
  const org = '/v1/orgs/personal/machines?limit=1';
  const first = (await bench.call('GET', org)).body;
  const second = (await bench.call('GET', `${org}&cursor=${first.next_cursor}`)).body;
  expect([first, second].map(({ machines: [machine] }) => machine.id)).toEqual([one, two.id]);
  expect(second.next_cursor).toBe('');
  expect((await bench.call('GET', '/v1/orgs/other/machines')).body.machines).toEqual([]);
});

describe('leases', () => {
  test('keep others from changing the machine until they end', async () => {
    const bench = await startBench();
    const { id } = await bench.create({ skip_launch: true });
    const lease = `${machines}/${id}/lease`;
    expect((await bench.call('GET', lease)).status).toBe(404);
    const { status, body } = await bench.call('POST', lease, { ttl: 30, description: 'deploy' });
    expect(status).toBe(201);
    const { nonce } = body.data;
    expect(body.data.expires_at).toBe(bench.clock.now() / 1_000 + 30);
    expect((await bench.call('GET', lease)).body).toEqual(body);

    const refused = await bench.call('POST', `${machines}/${id}/start`);
    expect(refused.status).toBe(409);
    expect(refused.body).toMatchObject({
      status: 'error',
      message: expect.stringContaining(`machine ID ${id} lease currently held by`),
    });
    for (const [method, path] of [
      ['DELETE', ''],
      ['POST', '/stop'],
      ['POST', '/cordon'],
      ['POST', '/lease'],
    ] as const) {
      expect((await bench.call(method, `${machines}/${id}${path}`)).status).toBe(409);
    }
    const holder = { 'fly-machine-lease-nonce': nonce };
    const refreshed = await bench.call('POST', `${lease}?ttl=60`, undefined, holder);
    expect(refreshed.body.data).toMatchObject({ nonce, expires_at: bench.clock.now() / 1_000 + 60 });
    expect((await bench.call('DELETE', lease, undefined, holder)).body).toEqual({
      status: 'success',
      data: { ok: true },
    });
    expect((await bench.call('POST', `${machines}/${id}/start`)).status).toBe(200);
  });

  test('can come with the create and expire by themselves', async () => {
    const bench = await startBench();
    const { id, nonce } = await bench.create({ skip_launch: true, lease_ttl: 10 });
    expect(nonce).toMatch(/^[0-9a-f]{12}$/);
    expect((await bench.call('POST', `${machines}/${id}/start`)).status).toBe(409);
    await bench.clock.advance(10_000);
    expect((await bench.call('POST', `${machines}/${id}/start`)).status).toBe(200);
  });
});

test('metadata changes without a new version', async () => {
  const bench = await startBench();
  const { id, instance_id } = await bench.create({ config: { image: 'i', metadata: { a: '1', b: '2' } } });
  const path = `${machines}/${id}/metadata`;
  expect((await bench.call('POST', `${path}/c`, { value: '3' })).status).toBe(204);
  expect((await bench.call('DELETE', `${path}/a`)).status).toBe(204);
  expect((await bench.call('PATCH', path, { metadata: { b: null, d: '4' } })).status).toBe(204);
  expect((await bench.call('PATCH', path, { metadata: { e: '5' }, machine_version: '01OLD' })).status).toBe(
    412,
  );
  expect((await bench.call('GET', path)).body).toEqual({ c: '3', d: '4' });
  expect((await bench.call('GET', `${path}/c`)).body).toEqual({ value: '3' });
  expect((await bench.call('GET', `${path}/a`)).status).toBe(404);
  const machine = (await bench.call('GET', `${machines}/${id}`)).body;
  expect([machine.instance_id, machine.config.metadata]).toEqual([instance_id, { c: '3', d: '4' }]);
});

test('secrets are set, counted and shown without their values', async () => {
  const bench = await startBench();
  await bench.call('POST', '/v1/apps', { name: 'a1' });
  const path = '/v1/apps/a1/secrets';
  const { body } = await bench.call('POST', path, { values: { A: 'hidden' } });
  expect(body).toMatchObject({ version: 1, Version: 1, secrets: [{ name: 'A' }] });
  expect(JSON.stringify(body)).not.toContain('hidden');
  expect(await bench.call('POST', `${path}/B`, { value: '2' })).toMatchObject({
    status: 201,
    body: { version: 2 },
  });
  expect((await bench.call('GET', `${path}?show_secrets=true`)).body.secrets[0].value).toBe('hidden');
  expect((await bench.call('DELETE', `${path}/B`)).body).toMatchObject({ version: 3 });
  expect((await bench.call('GET', `${path}/B`)).status).toBe(404);
  expect((await bench.call('POST', `${path}/no-good`, { value: '2' })).status).toBe(400);
  const early = { config: { image: 'i' }, min_secrets_version: 9 };
  expect((await bench.call('POST', machines, early)).status).toBe(412);
});

test('network policies are created, replaced by id, listed with a trailing slash and removed', async () => {
  const bench = await startBench();
  await bench.call('POST', '/v1/apps', { name: 'a1' });
  const path = '/v1/apps/a1/network_policies';
  const rules = [{ action: 'allow', direction: 'egress', ports: [{ protocol: 'tcp', port: 443 }] }];
  const { body: policy } = await bench.call('POST', path, { name: 'p', selector: { all: true }, rules });
  await bench.call('POST', path, { id: policy.id, name: 'p2', rules: [] });
  expect((await bench.call('GET', `${path}/`)).body).toMatchObject([
    { id: policy.id, name: 'p2', rules: [] },
  ]);
  const deny = [{ action: 'deny', direction: 'egress' }];
  expect((await bench.call('POST', path, { name: 'p', rules: deny })).status).toBe(400);
  expect((await bench.call('DELETE', `${path}/${policy.id}`)).status).toBe(204);
  expect((await bench.call('DELETE', `${path}/${policy.id}`)).status).toBe(404);
});

describe('limits and bad input', () => {
  test('four creates at once are one too many, a second later one passes', async () => {
    const bench = await startBench({ rateLimits: true });
    const create = () => bench.call('POST', '/v1/apps', { name: '!' });
    const statuses = [];
    for (let i = 0; i < 4; i++) statuses.push((await create()).status);
    expect(statuses).toEqual([422, 422, 422, 429]);
    await bench.clock.advance(1_000);
    expect((await create()).status).toBe(422);
    expect((await create()).status).toBe(429);
  });

  test('a GET of a machine has a larger allowance of its own', async () => {
    const bench = await startBench({ rateLimits: true });
    const { id } = await bench.create();
    const get = () => bench.call('GET', `${machines}/${id}`);
    const statuses = [];
    for (let i = 0; i < 11; i++) statuses.push((await get()).status);
    expect(statuses).toEqual([...Array(10).fill(200), 429]);
  });

  test('taking leases and giving them back do not count together: flyctl may stop and start', async () => {
    const bench = await startBench({ rateLimits: true });
    const { id } = await bench.create({ skip_launch: true });
    const statuses = [];
    for (let i = 0; i < 3; i++) {
      const { status, body } = await bench.call('POST', `${machines}/${id}/lease?ttl=120`);
      const holder = { 'fly-machine-lease-nonce': body.data.nonce };
      const released = await bench.call('DELETE', `${machines}/${id}/lease`, undefined, holder);
      statuses.push(status, released.status);
    }
    expect(statuses).toEqual([201, 200, 201, 200, 201, 200]);
    expect((await bench.call('POST', `${machines}/${id}/lease?ttl=120`)).status).toBe(429);
  });

  test('what is no JSON or of another type is 400, what is not supported 501 with its name', async () => {
    const bench = await startBench();
    await bench.call('POST', '/v1/apps', { name: 'a1' });
    expect((await bench.call('POST', machines, '{')).status).toBe(400);
    expect(await bench.call('POST', machines, [])).toMatchObject({
      status: 400,
      body: { error: 'json: cannot unmarshal array into Go value of type main.createMachineRequest' },
    });
    expect(await bench.call('GET', '/v1/apps/a1/volumes')).toMatchObject({
      status: 501,
      body: { error: 'local Fly does not support GET /v1/apps/a1/volumes' },
    });
    const json = { 'content-type': 'application/json' };
    const { status, headers } = await bench.call('GET', '/v1/apps/a1', undefined, json);
    expect(status).toBe(200);
    expect(headers.get('fly-request-id')).toBeTruthy();
  });
});

describe('what a boot takes from the app', () => {
  test('files, given or kept as a secret; without the secret there is no boot', async () => {
    const bench = await startBench();
    const files = [
      { guest_path: '/a', raw_value: Buffer.from('one').toString('base64'), mode: 0o600 },
      { guest_path: '/b', secret_name: 'FILE' },
    ];
    const id = await bench.createStarted({ config: { image: 'i', files, restart: { policy: 'no' } } });
    const [event] = (await bench.call('GET', `${machines}/${id}/events`)).body;
    expect([await bench.state(id), event.request.error]).toEqual([
      'failed',
      expect.stringContaining('"FILE"'),
    ]);
    await bench.call('POST', '/v1/apps/a1/secrets', {
      values: { FILE: Buffer.from('two').toString('base64') },
    });
    await bench.call('POST', `${machines}/${id}/start`);
    await bench.settle();
    expect(bench.engine.running.get(id)!.spec.files).toEqual([
      { path: '/a', content: Buffer.from('one'), mode: 0o600 },
      { path: '/b', content: Buffer.from('two'), mode: undefined },
    ]);
    expect((await bench.call('GET', `${machines}/${id}`)).body.config.files).toEqual(files);
  });

  test('files are refused where the engine cannot write them', async () => {
    const bench = await startBench();
    Object.assign(bench.engine, { writesFiles: false });
    await bench.call('POST', '/v1/apps', { name: 'a1' });
    const files = [{ guest_path: '/a', raw_value: '' }];
    const refused = await bench.call('POST', machines, { config: { image: 'i', files } });
    expect([refused.status, refused.body.error]).toEqual([501, expect.stringContaining('config.files')]);
  });

  test('its network, what policies deny, and the networks that call it', async () => {
    const bench = await startBench();
    await bench.call('POST', '/v1/apps', { name: 'a1', network: 'net-1' });
    const ips = '/v1/apps/a1/ip_assignments';
    const given = await bench.call('POST', ips, { type: 'private_v6', network: 'callers' });
    expect(given.body).not.toHaveProperty('network');
    await bench.call('POST', ips, { type: 'private_v6' });
    await bench.call('POST', ips, { type: 'v4', network: 'nobody' });
    expect((await bench.call('GET', ips)).body.ips[0]).toEqual(given.body);
    const rules = [{ action: 'allow', direction: 'ingress', ports: [] }];
    const policy = await bench.call('POST', '/v1/apps/a1/network_policies', { name: 'p', rules });
    const id = await bench.createStarted();
    const network = { name: 'net-1', deniesEgress: false, flycast: ['callers', 'default'] };
    expect(bench.engine.running.get(id)!.spec.network).toEqual({ ...network, deniesIngress: true });
    await bench.call('DELETE', `/v1/apps/a1/network_policies/${policy.body.id}`);
    await bench.call('POST', `${machines}/${id}/restart`);
    await bench.settle();
    expect(bench.engine.running.get(id)!.spec.network).toEqual({ ...network, deniesIngress: false });
  });
});
