import { describe, expect, it } from 'vitest';
import type { FlyClient } from '../../fly/index.ts';
import { failureOf, inOrder, type Play, scriptedServer, testClient } from './scripted-server.ts';

const M = { id: 'm1', state: 'started' };
const LEASE = { nonce: '5c35f65c9f95', expires_at: 1_708_569_778, owner: 'hello@fly.io' };
const LEASE_REPLY = { status: 'success', data: LEASE };

interface Case {
  call: (fly: FlyClient) => Promise<unknown>;
  /** `METHOD path?query` */
  sent: string;
  body?: unknown;
  nonce?: string;
  answer: Play;
  gives: unknown;
}

/** Shapes of docs and OpenAPI document, both ways. */
const CASES: Record<string, Case> = {
  getApp: {
    call: (fly) => fly.getApp('cell'),
    sent: 'GET /v1/apps/cell',
    answer: { json: { id: 'a', name: 'cell', status: 'pending' } },
    gives: { id: 'a', name: 'cell', status: 'pending' },
  },
  createApp: {
    call: (fly) => fly.createApp({ name: 'cell', org_slug: 'acme', network: 'net' }),
    sent: 'POST /v1/apps',
    body: { name: 'cell', app_name: 'cell', org_slug: 'acme', network: 'net' },
    answer: { status: 201, json: { id: 'z4k69dxd8r31p5mx', created_at: 1_708_631_799_000 } },
    gives: { id: 'z4k69dxd8r31p5mx', name: 'cell', created_at: 1_708_631_799_000 },
  },
  listApps: {
    call: (fly) => fly.listApps('acme'),
    sent: 'GET /v1/apps?org_slug=acme',
    answer: { json: { total_apps: 1, apps: [{ id: 'a', name: 'cell' }] } },
    gives: [{ id: 'a', name: 'cell' }],
  },
  deleteApp: {
    call: (fly) => fly.deleteApp('cell', { force: true }),
    sent: 'DELETE /v1/apps/cell?force=true',
    answer: { status: 202 },
    gives: undefined,
  },
  createDeployToken: {
    call: (fly) => fly.createDeployToken('cell', '24h'),
    sent: 'POST /v1/apps/cell/deploy_token',
    body: { expiry: '24h' },
    answer: { json: { token: 'FlyV1 fm2_x' } },
    gives: 'FlyV1 fm2_x',
  },
  currentTokens: {
    call: (fly) => fly.currentTokens(),
    sent: 'GET /v1/tokens/current',
    answer: { json: { tokens: [{ org_slug: 'acme', apps: null }] } },
    gives: [{ org_slug: 'acme', apps: null }],
  },
  listMachines: {
    call: (fly) => fly.listMachines('cell'),
    sent: 'GET /v1/apps/cell/machines',
    answer: { json: [M] },
    gives: [M],
  },
  'listMachines, filtered': {
    call: (fly) =>
      fly.listMachines('cell', {
        metadata: { session: 'a&b' },
        state: ['started', 'stopped'],
        includeDeleted: true,
        summary: true,
        region: 'ams',
      }),
    sent: 'GET /v1/apps/cell/machines?state=started%2Cstopped&include_deleted=true&summary=true&region=ams&metadata.session=a%26b',
    answer: { json: [] },
    gives: [],
  },
  'listMachines, none as Go writes it': {
    call: (fly) => fly.listMachines('cell'),
    sent: 'GET /v1/apps/cell/machines',
    answer: { json: null },
    gives: [],
  },
  getMachine: {
    call: (fly) => fly.getMachine('cell', 'm1'),
    sent: 'GET /v1/apps/cell/machines/m1',
    answer: { json: M },
    gives: M,
  },
  updateMachine: {
    call: (fly) =>
      fly.updateMachine('cell', 'm1', { config: { image: 'i' }, current_version: '01J' }, { nonce: 'n' }),
    sent: 'POST /v1/apps/cell/machines/m1',
    body: { config: { image: 'i' }, current_version: '01J' },
    nonce: 'n',
    answer: { json: M },
    gives: M,
  },
  startMachine: {
    call: (fly) => fly.startMachine('cell', 'm1', { nonce: 'n' }),
    sent: 'POST /v1/apps/cell/machines/m1/start',
    nonce: 'n',
    answer: { json: { previous_state: 'stopped', migrated: false, new_host: '' } },
    gives: { previous_state: 'stopped', migrated: false, new_host: '' },
  },
  stopMachine: {
    call: (fly) => fly.stopMachine('cell', 'm1'),
    sent: 'POST /v1/apps/cell/machines/m1/stop',
    answer: { json: { ok: true } },
    gives: undefined,
  },
  'stopMachine, with signal and grace': {
    call: (fly) => fly.stopMachine('cell', 'm1', { stopSignal: 'SIGTERM', grace: '10s' }),
    sent: 'POST /v1/apps/cell/machines/m1/stop',
    body: { signal: 'SIGTERM', timeout: '10s' },
    answer: { json: { ok: true } },
    gives: undefined,
  },
  restartMachine: {
    call: (fly) => fly.restartMachine('cell', 'm1', { stopSignal: 'SIGTERM', grace: '10s', force: true }),
    sent: 'POST /v1/apps/cell/machines/m1/restart?signal=SIGTERM&timeout=10s&force_stop=true',
    answer: { json: { ok: true } },
    gives: undefined,
  },
  suspendMachine: {
    call: (fly) => fly.suspendMachine('cell', 'm1'),
    sent: 'POST /v1/apps/cell/machines/m1/suspend',
    answer: { json: { ok: true } },
    gives: undefined,
  },
  signalMachine: {
    call: (fly) => fly.signalMachine('cell', 'm1', 'SIGUSR1'),
    sent: 'POST /v1/apps/cell/machines/m1/signal',
    body: { signal: 'SIGUSR1' },
    answer: { json: { ok: true } },
    gives: undefined,
  },
  destroyMachine: {
    call: (fly) => fly.destroyMachine('cell', 'm1'),
    sent: 'DELETE /v1/apps/cell/machines/m1',
    answer: { json: { ok: true } },
    gives: undefined,
  },
  'destroyMachine, by force': {
    call: (fly) => fly.destroyMachine('cell', 'm1', { force: true, nonce: 'n' }),
    sent: 'DELETE /v1/apps/cell/machines/m1?force=true',
    nonce: 'n',
    answer: { json: { ok: true } },
    gives: undefined,
  },
  acquireLease: {
    call: (fly) => fly.acquireLease('cell', 'm1', { ttlSeconds: 30, description: 'why' }),
    sent: 'POST /v1/apps/cell/machines/m1/lease',
    body: { ttl: 30, description: 'why' },
    answer: { status: 201, json: LEASE_REPLY },
    gives: LEASE,
  },
  'acquireLease, again': {
    call: (fly) => fly.acquireLease('cell', 'm1', { ttlSeconds: 30 }, { nonce: 'n' }),
    sent: 'POST /v1/apps/cell/machines/m1/lease',
    body: { ttl: 30 },
    nonce: 'n',
    answer: { json: LEASE_REPLY },
    gives: LEASE,
  },
  getLease: {
    call: (fly) => fly.getLease('cell', 'm1'),
    sent: 'GET /v1/apps/cell/machines/m1/lease',
    answer: { json: LEASE_REPLY },
    gives: LEASE,
  },
  releaseLease: {
    call: (fly) => fly.releaseLease('cell', 'm1', 'n'),
    sent: 'DELETE /v1/apps/cell/machines/m1/lease',
    nonce: 'n',
    answer: { json: { status: 'success', data: { ok: true } } },
    gives: undefined,
  },
  getMetadata: {
    call: (fly) => fly.getMetadata('cell', 'm1'),
    sent: 'GET /v1/apps/cell/machines/m1/metadata',
    answer: { json: { session: 'a' } },
    gives: { session: 'a' },
  },
  setMetadata: {
    call: (fly) => fly.setMetadata('cell', 'm1', 'a/b', 'v'),
    sent: 'POST /v1/apps/cell/machines/m1/metadata/a%2Fb',
    body: { value: 'v' },
    answer: { status: 204 },
    gives: undefined,
  },
  deleteMetadata: {
    call: (fly) => fly.deleteMetadata('cell', 'm1', 'k'),
    sent: 'DELETE /v1/apps/cell/machines/m1/metadata/k',
    answer: { status: 204 },
    gives: undefined,
  },
  listEvents: {
    call: (fly) => fly.listEvents('cell', 'm1', { limit: 5 }),
    sent: 'GET /v1/apps/cell/machines/m1/events?limit=5',
    answer: { json: [{ id: '01H', type: 'exit' }] },
    gives: [{ id: '01H', type: 'exit' }],
  },
  exec: {
    call: (fly) => fly.exec('cell', 'm1', { command: ['sh', '-c', 'exit 3'], stdin: 'x', timeout: 5 }),
    sent: 'POST /v1/apps/cell/machines/m1/exec',
    body: { command: ['sh', '-c', 'exit 3'], stdin: 'x', timeout: 5 },
    answer: { json: { exit_code: 3, exit_signal: 0, stdout: '', stderr: 'e' } },
    gives: { exit_code: 3, exit_signal: 0, stdout: '', stderr: 'e' },
  },
  'exec, with what Go leaves out': {
    call: (fly) => fly.exec('cell', 'm1', { command: ['true'] }),
    sent: 'POST /v1/apps/cell/machines/m1/exec',
    body: { command: ['true'], timeout: 30 },
    answer: { json: { stdout: 'o' } },
    gives: { exit_code: 0, exit_signal: 0, stdout: 'o', stderr: '' },
  },
  listSecrets: {
    call: (fly) => fly.listSecrets('cell'),
    sent: 'GET /v1/apps/cell/secrets',
    answer: { json: { secrets: [{ name: 'A', digest: 'd' }] } },
    gives: [{ name: 'A', digest: 'd' }],
  },
  setSecrets: {
    call: (fly) => fly.setSecrets('cell', { A: 'x', OLD: null }),
    sent: 'POST /v1/apps/cell/secrets',
    body: { values: { A: 'x', OLD: null } },
    answer: { json: { secrets: [{ name: 'A' }], version: 7, Version: 7 } },
    gives: { secrets: [{ name: 'A' }], version: 7 },
  },
  listNetworkPolicies: {
    call: (fly) => fly.listNetworkPolicies('cell'),
    sent: 'GET /v1/apps/cell/network_policies/',
    answer: { json: [{ id: 'p', name: 'n' }] },
    gives: [{ id: 'p', name: 'n' }],
  },
  deleteNetworkPolicy: {
    call: (fly) => fly.deleteNetworkPolicy('cell', 'p1'),
    sent: 'DELETE /v1/apps/cell/network_policies/p1',
    answer: { status: 204 },
    gives: undefined,
  },
  listIps: {
    call: (fly) => fly.listIps('cell'),
    sent: 'GET /v1/apps/cell/ip_assignments',
    answer: { json: { ips: [{ ip: 'fdaa::1' }] } },
    gives: [{ ip: 'fdaa::1' }],
  },
  allocateIp: {
    call: (fly) => fly.allocateIp('cell', { type: 'private_v6', network: 'net' }),
    sent: 'POST /v1/apps/cell/ip_assignments',
    body: { type: 'private_v6', network: 'net' },
    answer: { json: { ip: 'fdaa::1', shared: false } },
    gives: { ip: 'fdaa::1', shared: false },
  },
  releaseIp: {
    call: (fly) => fly.releaseIp('cell', 'fdaa::1'),
    sent: 'DELETE /v1/apps/cell/ip_assignments/fdaa%3A%3A1',
    answer: { status: 204 },
    gives: undefined,
  },
  listRegions: {
    call: (fly) => fly.listRegions(),
    sent: 'GET /v1/platform/regions',
    answer: { json: { Regions: [{ code: 'ams' }], Nearest: 'ams' } },
    gives: [{ code: 'ams' }],
  },
  'listRegions, as in the OpenAPI document': {
    call: (fly) => fly.listRegions(),
    sent: 'GET /v1/platform/regions',
    answer: { json: { regions: [{ code: 'ams' }], nearest: 'ams' } },
    gives: [{ code: 'ams' }],
  },
};

describe('each call on the wire', () => {
  it.each(Object.entries(CASES))('%s', async (_name, { call, sent, body, nonce, answer, gives }) => {
    const server = await scriptedServer(() => answer);
    await expect(call(testClient(server.url))).resolves.toEqual(gives);
    const [request] = server.seen;
    expect(server.seen).toHaveLength(1);
    const query = request?.query.size ? `?${request.query}` : '';
    expect(`${request?.method} ${request?.path}${query}`).toBe(sent);
    expect(request?.body).toEqual(body);
    expect(request?.headers['fly-machine-lease-nonce']).toBe(nonce);
    expect(request?.headers['content-type']).toBe(body === undefined ? undefined : 'application/json');
  });

  it('keeps one connection for calls after each other', async () => {
    const connections = new Set<unknown>();
    const server = await scriptedServer((request) => {
      connections.add(request.port);
      return { json: M };
    });
    const client = testClient(server.url);
    for (let n = 0; n < 3; n++) await client.getMachine('cell', 'm1');
    expect(connections.size).toBe(1);
  });
});

describe('taking away what is not there', () => {
  const MISSING = { status: 404, json: { error: 'not found' } };
  const NO_APP = { status: 404, json: { error: 'Could not find App "cell"' } };
  const REMOVALS: [name: string, call: (fly: FlyClient) => Promise<void>][] = [
    ['destroyMachine', (fly) => fly.destroyMachine('cell', 'm1', { force: true })],
    ['releaseLease', (fly) => fly.releaseLease('cell', 'm1', 'n')],
    ['deleteMetadata', (fly) => fly.deleteMetadata('cell', 'm1', 'k')],
    ['deleteNetworkPolicy', (fly) => fly.deleteNetworkPolicy('cell', 'p')],
    ['releaseIp', (fly) => fly.releaseIp('cell', '::1')],
  ];

  it.each(REMOVALS)('is done for %s', async (_name, call) => {
    const server = await scriptedServer(() => MISSING);
    await expect(call(testClient(server.url))).resolves.toBeUndefined();
  });

  it.each(REMOVALS)('is not done for %s where the app itself is not found', async (_name, call) => {
    const server = await scriptedServer(() => NO_APP);
    expect(await failureOf(call(testClient(server.url)))).toMatchObject({ reason: 'app_not_found' });
  });

  it('is done for deleteApp', async () => {
    const server = await scriptedServer(() => NO_APP);
    await expect(testClient(server.url).deleteApp('cell')).resolves.toBeUndefined();
  });
});

describe('createApp', () => {
  const REQUEST = { name: 'cell', org_slug: 'acme', network: 'net' };
  const TAKEN = {
    status: 422,
    json: { error: 'Validation failed: Name has already been taken', status: 'name_taken' },
  };
  const OURS = { id: 'a', name: 'cell', network: 'net', organization: { slug: 'acme' } };

  it('finds the app where it is ours already', async () => {
    const server = await scriptedServer(inOrder(TAKEN, { json: OURS }));
    await expect(testClient(server.url).createApp(REQUEST)).resolves.toEqual(OURS);
  });

  it('finds the app that a lost answer hid', async () => {
    const server = await scriptedServer(inOrder('reset', TAKEN, { json: OURS }));
    await expect(testClient(server.url).createApp(REQUEST)).resolves.toEqual(OURS);
  });

  it.each<[string, Play, RegExp]>([
    [
      'another organisation',
      { json: { ...OURS, organization: { slug: 'rival' } } },
      /organisation rival, not acme/,
    ],
    ['another network', { json: { ...OURS, network: 'default' } }, /network default, not net/],
    ['somebody who hides it', { status: 403, json: { error: 'forbidden' } }, /can not be read/],
  ])('is a conflict when the name belongs to %s', async (_who, found, words) => {
    const server = await scriptedServer(inOrder(TAKEN, found));
    const error = await failureOf(testClient(server.url).createApp(REQUEST));
    expect(error).toMatchObject({ kind: 'conflict', reason: 'name_taken', target: 'cell' });
    expect(error.detail).toMatch(words);
  });
});

describe('putNetworkPolicy', () => {
  const POLICY = { name: 'closed', selector: { all: true as const }, rules: [] };

  it('makes a new policy where none has the name', async () => {
    const server = await scriptedServer(inOrder({ json: [] }, { json: { id: 'p1' } }));
    await expect(testClient(server.url).putNetworkPolicy('cell', POLICY)).resolves.toEqual({
      ...POLICY,
      id: 'p1',
    });
    expect(server.seen[1]).toMatchObject({
      method: 'POST',
      path: '/v1/apps/cell/network_policies',
      body: POLICY,
    });
  });

  it('replaces the policy of the name', async () => {
    const server = await scriptedServer(
      inOrder({ json: [{ id: 'p1', name: 'closed' }] }, { json: { id: 'p1' } }),
    );
    await testClient(server.url).putNetworkPolicy('cell', POLICY);
    expect(server.seen[1]?.body).toEqual({ ...POLICY, id: 'p1' });
  });

  it('finds the id in the list when the answer has none', async () => {
    const listed = { json: [{ id: 'p1', name: 'closed' }] };
    const server = await scriptedServer(inOrder({ json: [] }, { status: 201 }, listed));
    await expect(testClient(server.url).putNetworkPolicy('cell', POLICY)).resolves.toMatchObject({
      id: 'p1',
    });
  });
});
