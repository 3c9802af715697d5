import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import * as apiKey from '../../infra/operations/api-key.ts';
import * as app from '../../infra/operations/app.ts';
import * as deployToken from '../../infra/operations/deploy-token.ts';
import * as ipAddress from '../../infra/operations/ip-address.ts';
import * as machine from '../../infra/operations/machine.ts';
import * as networkPolicy from '../../infra/operations/network-policy.ts';
import * as randomSecret from '../../infra/operations/random-secret.ts';
import * as secrets from '../../infra/operations/secrets.ts';
import { waitUntil } from '../../infra/operations/wait.ts';
import { inOrder, scriptedServer } from '../fly/scripted-server.ts';

/** What the engine writes for a value that is not known yet (@pulumi/pulumi, runtime/rpc). */
const UNKNOWN = '04da6b54-80e4-46f7-96ec-b56ff0331ba9';
const endpoint = 'https://api.machines.dev';
const NOW = Date.UTC(2026, 0, 1);
const HOUR = 3_600_000;

describe('what a change of inputs asks for', () => {
  const rule = { action: 'allow', direction: 'egress', ports: [{ protocol: 'tcp', port: 443 }] } as const;
  const at = (hours: number) => new Date(NOW + hours * HOUR).toISOString();
  type Row = [
    name: string,
    diff: (
      olds: never,
      news: never,
    ) => { changes: boolean; replaces: string[]; deleteBeforeReplace: boolean },
    inputs: object,
    outputs: object,
    /** Inputs whose change replaces it, with another value. */
    replace: object,
    update: object,
    deleteBeforeReplace: boolean,
  ];
  const table: Row[] = [
    [
      'App',
      app.diff,
      { endpoint, name: 'cells', org: 'acme', network: 'n1' },
      { appId: 'x' },
      { name: 'other', org: 'rival', network: 'n2' },
      { endpoint: 'http://_api.internal:4280' },
      true,
    ],
    [
      'NetworkPolicy',
      networkPolicy.diff,
      { endpoint, app: 'cells', name: 'egress', selector: { all: true }, rules: [rule] },
      { policyId: 'x' },
      { app: 'other', name: 'other' },
      { endpoint: 'http://x', selector: { machines: [{ id: 'm' }] }, rules: [{ ...rule, ports: [] }] },
      false,
    ],
    [
      'DeployToken',
      (olds, news) => deployToken.diff(olds, news, NOW),
      { endpoint, app: 'cells', expiry: '24h', rotation: '1' },
      { token: 't', expiresAt: at(24) },
      { app: 'other', expiry: '48h', rotation: '2' },
      { endpoint: 'http://x' },
      false,
    ],
    [
      'Secrets',
      secrets.diff,
      { endpoint, app: 'cells', values: { A: '1' } },
      { version: 3, digests: { A: 'd' } },
      { app: 'other' },
      { endpoint: 'http://x', values: { A: '2' } },
      false,
    ],
    [
      'IpAddress',
      ipAddress.diff,
      { endpoint, app: 'cells', type: 'private_v6', network: 'n1', region: 'ams' },
      { address: 'fdaa::1' },
      { app: 'other', type: 'v6', network: 'n2', region: 'fra' },
      { endpoint: 'http://x' },
      true,
    ],
    [
      'Machine',
      machine.diff,
      {
        endpoint,
        app: 'ctl',
        name: 'ctl-1',
        region: 'ams',
        config: { image: 'a', env: { A: '1' } },
        launch: true,
        minSecretsVersion: 1,
        startTimeoutSeconds: 180,
      },
      { machineId: 'm', instanceId: 'i', privateIp: 'fdaa::2', state: 'started' },
      { app: 'other', name: 'ctl-2', region: 'fra', launch: false },
      {
        endpoint: 'http://x',
        config: { image: 'a', env: { A: '2' } },
        minSecretsVersion: 2,
        startTimeoutSeconds: 60,
      },
      true,
    ],
    [
      'RandomSecret',
      randomSecret.diff,
      { bytes: 32, rotation: '1' },
      { value: 'x' },
      { bytes: 64, rotation: '2' },
      {},
      false,
    ],
    [
      'ApiKey',
      apiKey.diff,
      { supabaseUrl: 'https://x.supabase.co', serviceRoleKey: 's', keyId: 'k', name: 'K', rotation: '1' },
      { key: 'mvk_x' },
      { supabaseUrl: 'https://y.supabase.co', keyId: 'l', name: 'L', rotation: '2' },
      { serviceRoleKey: 't' },
      false,
    ],
  ];

  it.each(table)('%s', (_name, diff, inputs, outputs, replace, update, deleteBeforeReplace) => {
    const olds = { ...inputs, ...outputs };
    const ask = (news: object) => diff(olds as never, news as never);
    expect(ask({ ...inputs })).toEqual({ changes: false, replaces: [], deleteBeforeReplace });
    for (const [key, value] of Object.entries(replace)) {
      const answer = { changes: true, replaces: [key], deleteBeforeReplace };
      expect(ask({ ...inputs, [key]: value }), key).toEqual(answer);
      expect(ask({ ...inputs, [key]: UNKNOWN }), key).toEqual(answer);
      expect(ask({ ...inputs, [key]: undefined }), key).toEqual(answer);
    }
    for (const [key, value] of Object.entries(update)) {
      expect(ask({ ...inputs, [key]: value }), key).toMatchObject({ changes: true, replaces: [] });
      expect(ask({ ...inputs, [key]: UNKNOWN }), key).toMatchObject({ changes: true, replaces: [] });
    }
    // Every input is in one of the two.
    expect(Object.keys({ ...replace, ...update }).sort()).toEqual(Object.keys(inputs).sort());
  });

  it.each([
    [24, false],
    [8.01, false],
    [8, true],
    [-1, true],
  ])('a token with %d of its 24 hours left: replaced %s', (hours, isDue) => {
    const inputs = { endpoint, app: 'cells', expiry: '24h' };
    const olds = { ...inputs, token: 't', expiresAt: at(hours) };
    const replaces = isDue ? ['expiresAt'] : [];
    expect(deployToken.diff(olds, inputs, NOW)).toMatchObject({ changes: isDue, replaces });
  });

  it.each([
    ['started', { changes: false, replaces: [] }],
    ['stopped', { changes: true, replaces: [] }],
    ['starting', { changes: true, replaces: [] }],
    ['failed', { changes: true, replaces: ['state'] }],
    ['launch_failed', { changes: true, replaces: ['state'] }],
  ])('a machine that is %s', (state, answer) => {
    const inputs = {
      endpoint,
      app: 'a',
      name: 'n',
      region: 'ams',
      config: { image: 'a' },
      startTimeoutSeconds: 1,
    };
    const olds = { ...inputs, machineId: 'm', instanceId: 'i', privateIp: '', state };
    expect(machine.diff(olds, inputs)).toMatchObject(answer);
  });

  it('a secret that somebody else added', () => {
    const inputs = { endpoint, app: 'a', values: { A: '1' } };
    const olds = { ...inputs, version: 1, digests: { A: 'd', B: 'e' } };
    expect(secrets.diff(olds, inputs)).toMatchObject({ changes: true, replaces: [] });
    expect(secrets.diff(olds, { ...inputs, values: UNKNOWN as never })).toMatchObject({ changes: true });
  });
});

it.each([
  ['nothing to do', { A: '1' }, { A: 'd' }, { A: '1' }, {}],
  ['changed', { A: '1' }, { A: 'd' }, { A: '2' }, { A: '2' }],
  ['added', {}, {}, { A: '1' }, { A: '1' }],
  ['removed', { A: '1' }, { A: 'd' }, {}, { A: null }],
  ['gone at Fly', { A: '1' }, {}, { A: '1' }, { A: '1' }],
  ['changed at Fly', {}, { A: 'e' }, { A: '1' }, { A: '1' }],
  ['added at Fly', {}, { X: 'd' }, { A: '1' }, { X: null, A: '1' }],
  ['named like a property of all objects', {}, {}, { constructor: '1' }, { constructor: '1' }],
])('the call that secrets need: %s', (_what, values, digests, wanted, call) => {
  expect(secrets.changesOf({ values, digests } as never, wanted as never)).toEqual(call);
});

it.each([
  [{ ip: '203.0.113.1', shared: false }, 'v4'],
  [{ ip: '66.241.124.1', shared: true }, 'shared_v4'],
  [{ ip: '2a09:8280:1::1' }, 'v6'],
  [{ ip: 'fdaa:0:1::2', shared: false }, 'private_v6'],
] as const)('the type of %o', (address, type) => {
  expect(ipAddress.typeOf(address)).toBe(type);
});

describe('when a machine is ready', () => {
  const check = (status: string) => ({ name: 'c', status, output: 'connection refused' });
  const both = { image: 'a', checks: { health: {} }, services: [{ checks: [{ type: 'http' }] }] };
  it.each([
    ['no checks', 'started', [], { image: 'a' }, true, 'it runs'],
    ['not started', 'starting', [], { image: 'a' }, false, 'its state is starting'],
    ['checks have not run', 'started', [], both, false, '0 of its 2 checks have run'],
    ['one has not run', 'started', [check('passing')], both, false, '1 of its 2 checks have run'],
    ['all pass', 'started', [check('passing'), check('passing')], both, true, 'it runs'],
    [
      'one warns',
      'started',
      [check('passing'), check('warning')],
      both,
      false,
      'its check c is warning: connection refused',
    ],
    ['one fails', 'started', [check('critical')], both, false, 'its check c is critical: connection refused'],
  ])('%s', (_what, state, checks, config, ready, why) => {
    expect(machine.readiness({ id: 'm', state, checks }, { config })).toEqual({ ready, why });
  });

  it.each([
    ['created', true],
    ['stopped', true],
    ['started', false],
    ['replacing', false],
    ['destroyed', false],
  ])('one that is not to run: %s', (state, ready) => {
    const inputs = { config: { image: 'a', checks: { health: {} } }, launch: false };
    expect(machine.readiness({ id: 'm', state }, inputs).ready).toBe(ready);
  });
});

describe('waiting', () => {
  const time = () => {
    let now = 0;
    return { clock: () => now, sleep: async (ms: number) => (now += ms) };
  };

  it('looks until it is done', async () => {
    const look = vi.fn().mockResolvedValue({ waiting: 'no' }).mockResolvedValueOnce({ waiting: 'not yet' });
    look.mockResolvedValueOnce({ waiting: 'nearly' }).mockResolvedValueOnce({ done: 42 });
    await expect(waitUntil('it', 60_000, look, time())).resolves.toBe(42);
    expect(look).toHaveBeenCalledTimes(3);
  });

  it('ends with what was seen last', async () => {
    const look = vi.fn().mockResolvedValue({ waiting: 'Fly still shows it' });
    await expect(waitUntil('app a: not deleted', 2_000, look, time())).rejects.toThrow(
      'app a: not deleted: not within 2 s; Fly still shows it',
    );
    expect(look).toHaveBeenCalledTimes(5);
  });
});

it('a Flycast address whose answer was lost is not taken for that of another network', async () => {
  vi.stubEnv('FLY_API_TOKEN', 'fm2_test');
  onTestFinished(() => void vi.unstubAllEnvs());
  const made: string[] = [];
  const server = await scriptedServer(({ method, body }) => {
    // The newest first.
    if (method === 'GET') return { json: { ips: made.map((ip) => ({ ip })).reverse() } };
    const { network } = body as { network: string };
    made.push(`fdaa:0:${network}::1`);
    return network === 'a' ? 'reset' : { json: { ip: `fdaa:0:${network}::1` } };
  });
  const create = (network: string) =>
    ipAddress.create({ endpoint: server.url, app: 'proxy', type: 'private_v6', network });
  const [a, b] = await Promise.all([create('a'), create('b')]);
  expect([a.id, b.id]).toEqual(['fdaa:0:a::1', 'fdaa:0:b::1']);
});

describe('a removal that Fly does not come to an end with fails, so that nothing is forgotten', () => {
  beforeEach(() => void vi.stubEnv('FLY_API_TOKEN', 'fm2_test'));
  afterEach(() => void vi.unstubAllEnvs());

  it('of an app', async () => {
    const server = await scriptedServer(inOrder({ status: 202 }, { json: { id: 'x', machine_count: 2 } }));
    const outs = { endpoint: server.url, name: 'cells', org: 'acme', appId: 'x' };
    await expect(app.remove(outs, 1)).rejects.toThrow(
      'app cells: not deleted: not within 0.001 s; Fly still shows it, with 2 machines',
    );
    expect(server.seen[0]).toMatchObject({ method: 'DELETE', path: '/v1/apps/cells' });
    expect(server.seen[0]?.query.get('force')).toBe('true');
  });

  it('of a machine, whatever became of its stop', async () => {
    const late = {
      status: 408,
      json: { error: 'machine failed to reach desired state, destroyed, currently destroying' },
    };
    const server = await scriptedServer(({ method, path }) => {
      if (path.endsWith('/stop')) return { status: 412, json: { error: 'failed_precondition' } };
      return method === 'DELETE' ? { json: { ok: true } } : late;
    });
    const inputs = {
      endpoint: server.url,
      app: 'ctl',
      name: 'ctl-1',
      region: 'ams',
      config: { image: 'a' },
      startTimeoutSeconds: 1,
    };
    const outs = { ...inputs, machineId: 'm1', instanceId: 'i', privateIp: '', state: 'started' };
    await expect(machine.remove('m1', outs, 50)).rejects.toThrow('m1: not destroyed within 50 ms');
    expect(server.calls().slice(0, 2)).toEqual([
      'POST /v1/apps/ctl/machines/m1/stop',
      'DELETE /v1/apps/ctl/machines/m1',
    ]);
    expect(server.seen[1]?.query.get('force')).toBe('true');
  });
});
