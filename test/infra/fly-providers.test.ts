import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Action } from '../../local/fly/actions.ts';
import { type FlyWorld, ORG, startFlyWorld, TOKEN } from './fly-world.ts';
import {
  type Failure,
  type Props,
  type Provider,
  type ProviderProcess,
  startProviderProcess,
} from './provider-process.ts';

/** What the engine writes for a value that is not known yet (@pulumi/pulumi, runtime/rpc). */
const UNKNOWN = '04da6b54-80e4-46f7-96ec-b56ff0331ba9';
const SECRET = 'canary-of-a-secret-value';
const NOTHING = { changes: false, replaces: [], deleteBeforeReplace: expect.any(Boolean) };
const replacing = (...replaces: string[]) => expect.objectContaining({ changes: true, replaces });
const updating = expect.objectContaining({ changes: true, replaces: [] });

// Nearly all of their time the tests wait for their turn under Fly's rate limits, each for its own app.
vi.setConfig({ maxConcurrency: 100 });

/** The limit only catches a hang. */
const SOON = { timeout: 30_000 };

let world: FlyWorld;
let process: ProviderProcess;
let tokenless: ProviderProcess;
let endpoint: string;
/** Boots of machines of these apps fail. */
const broken = new Set<string>();

beforeAll(async () => {
  world = await startFlyWorld({
    onStart({ spec }) {
      if (broken.has(spec.app)) throw new Error('no such program');
    },
  });
  endpoint = world.fly.url;
  [process, tokenless] = await Promise.all([
    startProviderProcess({ FLY_API_TOKEN: TOKEN }),
    startProviderProcess({}),
  ]);
});

afterAll(async () => {
  await Promise.all([process.close(), tokenless.close()]);
  await world.close();
  expect(process.log()).not.toContain(SECRET);
  for (const text of [process.log(), process.answers()]) expect(text).not.toContain(TOKEN);
});

/** The inputs as the engine passes them on, after the provider's check. */
async function checked(provider: Provider, inputs: Props): Promise<Props> {
  const passed = await provider.check(inputs);
  expect(passed).toEqual(inputs);
  return passed;
}

const failureOf = (promise: Promise<unknown>): Promise<Failure> =>
  promise.then(
    () => {
      throw new Error('resolved, where an error was expected');
    },
    (error: Failure) => error,
  );

/** Tests run side by side, so a fault is for the app of one. */
const scopeOf = (app: string, action: string) => (action === 'app.create' ? { name: app } : { app });
/** Met by one call, which then works when it is sent again. */
function fault(app: string, action: Action, method: string, status: number): void {
  const scope = scopeOf(app, action);
  world.fly.faults.add({ kind: 'answer', action, method, status, error: 'trouble', ...scope });
}
function loseAnswer(app: string, action: Action, method: string): void {
  world.fly.faults.add({ kind: 'lost_answer', action, method, ...scopeOf(app, action) });
}
function expectFaultsMet(app: string): void {
  expect(world.fly.faults.pending().filter((one) => one.app === app || one.name === app)).toEqual([]);
}
const running = (app: string) => [...world.engine.running.values()].filter(({ spec }) => spec.app === app);

describe.concurrent('App', () => {
  const inputs = (name: string) => ({ endpoint, name, org: ORG, network: 'cells' });

  it('is made, read, found unchanged, and deleted with all its machines', async () => {
    const app = process.of('App');
    const news = await checked(app, inputs('whole-life'));
    const { id, outs } = await app.create(news);
    expect(id).toBe('whole-life');
    expect(outs).toEqual({ ...news, appId: expect.stringMatching(/./) });
    await expect(world.call('GET', '/v1/apps/whole-life')).resolves.toMatchObject({ network: 'cells' });
    await expect(app.read(id, outs)).resolves.toEqual({ id, outs });
    await expect(app.diff(id, outs, news)).resolves.toEqual(NOTHING);

    await world.call('POST', '/v1/apps/whole-life/machines', { config: { image: 'a' } });
    await vi.waitFor(() => expect(running('whole-life')).toHaveLength(1), SOON);
    await app.delete(id, outs);
    await expect(world.call('GET', '/v1/apps/whole-life')).resolves.toMatchObject({
      error: expect.stringMatching(/Could not find/),
    });
    expect(running('whole-life')).toEqual([]);
    await app.delete(id, outs);
    await expect(app.read(id, outs)).resolves.toEqual({ id: '', outs: {} });
  });

  it('is deleted before it is made anew on another network', async () => {
    const app = process.of('App');
    const { id, outs } = await app.create(inputs('moves'));
    const moved = { ...inputs('moves'), network: 'others' };
    await expect(app.diff(id, outs, moved)).resolves.toEqual({
      changes: true,
      replaces: ['network'],
      deleteBeforeReplace: true,
    });
    await app.delete(id, outs);
    const again = await app.create(moved);
    await expect(app.diff(id, again.outs, inputs('moves'))).resolves.toEqual(replacing('network'));
  });

  it('shows an app that stands on another network as drift', async () => {
    const name = await world.app({ network: 'elsewhere' });
    const outs = { ...inputs(name), appId: 'x' };
    const found = await process.of('App').read(name, outs);
    expect(found.outs.network).toBe('elsewhere');
    await expect(process.of('App').diff(name, found.outs, inputs(name))).resolves.toEqual(
      replacing('network'),
    );
  });

  it('adopts what a lost answer made, after a 500 and a 429', async () => {
    fault('lost', 'app.create', 'POST', 500);
    fault('lost', 'app.create', 'POST', 429);
    loseAnswer('lost', 'app.create', 'POST');
    await expect(process.of('App').create(inputs('lost'))).resolves.toMatchObject({ id: 'lost' });
    expectFaultsMet('lost');
  });

  it('refuses an app on another network, and one of another organisation', async () => {
    const onOther = await world.app({ network: 'other' });
    const refused = await failureOf(process.of('App').create(inputs(onOther)));
    expect(refused).toMatchObject({
      message: expect.stringMatching(/it is on the network other, not cells/),
    });
    expect(refused.id).toBeUndefined();
    const ofOther = await world.app({ org_slug: 'rival', network: 'cells' });
    await expect(process.of('App').create(inputs(ofOther))).rejects.toThrow(
      /belongs to the organisation rival/,
    );
  });

  it('waits for a name that a deleted app still holds', async () => {
    const { promise: mayEnd, resolve: letEnd } = Promise.withResolvers<void>();
    const slow = await startFlyWorld({ onStart: () => mayEnd });
    try {
      const name = await slow.app();
      await slow.call('POST', `/v1/apps/${name}/machines`, { config: { image: 'a' } });
      await vi.waitFor(() => expect(slow.engine.running.size).toBe(1), SOON);
      await slow.call('DELETE', `/v1/apps/${name}?force=true`);
      // Once the first answer was "taken", the last machine may end, and the name is free.
      const taken = { status: 422, error: 'taken', code: 'name_taken', done: true };
      slow.fly.faults.add({ kind: 'answer', action: 'app.create', ...taken });
      const creating = process.of('App').create({ ...inputs(name), endpoint: slow.fly.url });
      await vi.waitFor(() => expect(slow.fly.faults.pending()).toEqual([]), SOON);
      letEnd();
      await expect(creating).resolves.toMatchObject({ id: name });
    } finally {
      await slow.close();
    }
  });

  it('does not take trouble for absence', async () => {
    const name = await world.app();
    fault(name, 'app.get', 'GET', 403);
    await expect(process.of('App').read(name, { ...inputs(name), appId: 'x' })).rejects.toThrow(/403/);
  });
});

describe.concurrent('NetworkPolicy', () => {
  const closed = [{ action: 'allow', direction: 'ingress', ports: [] }];
  const open = [{ action: 'allow', direction: 'egress', ports: [{ protocol: 'tcp', port: 443 }] }];
  const inputs = (app: string) => ({ endpoint, app, name: 'closed', selector: { all: true }, rules: closed });
  const policies = (app: string) => world.call('GET', `/v1/apps/${app}/network_policies`);

  it('is made, changed in place, mended after drift, and deleted', async () => {
    const policy = process.of('NetworkPolicy');
    const app = await world.app();
    const news = await checked(policy, inputs(app));
    const { id, outs } = await policy.create(news);
    expect(outs).toEqual({ ...news, policyId: id });
    expect(await policies(app)).toEqual([{ id, name: 'closed', selector: { all: true }, rules: closed }]);
    await expect(policy.read(id, outs)).resolves.toEqual({ id, outs });
    await expect(policy.diff(id, outs, news)).resolves.toEqual(NOTHING);

    const other = { ...news, rules: [...closed, ...open] };
    await expect(policy.diff(id, outs, other)).resolves.toEqual(updating);
    const changed = await policy.update(id, outs, other);
    expect(changed).toEqual({ ...other, policyId: id });
    expect(await policies(app)).toMatchObject([{ id, rules: [...closed, ...open] }]);

    await world.call('POST', `/v1/apps/${app}/network_policies`, { id, rules: open });
    const drifted = await policy.read(id, changed);
    await expect(policy.diff(id, drifted.outs, other)).resolves.toEqual(updating);

    await policy.delete(id, changed);
    expect(await policies(app)).toEqual([]);
    await policy.delete(id, changed);
    await expect(policy.read(id, changed)).resolves.toEqual({ id: '', outs: {} });
  });

  it('falls with its app, and goes where another app is named', async () => {
    const policy = process.of('NetworkPolicy');
    const app = await world.app();
    const { id, outs } = await policy.create(inputs(app));
    await expect(policy.diff(id, outs, { ...inputs(app), app: UNKNOWN })).resolves.toEqual(replacing('app'));
    await world.call('DELETE', `/v1/apps/${app}?force=true`);
    await expect(policy.read(id, outs)).resolves.toEqual({ id: '', outs: {} });
    await policy.delete(id, outs);
  });

  it('adopts what a lost answer made', async () => {
    const app = await world.app();
    loseAnswer(app, 'app.network_policies', 'POST');
    const { id } = await process.of('NetworkPolicy').create(inputs(app));
    expectFaultsMet(app);
    expect(await policies(app)).toMatchObject([{ id }]);
  });

  it('gets through a 500 without effect', async () => {
    const app = await world.app();
    fault(app, 'app.network_policies', 'POST', 500);
    const { id } = await process.of('NetworkPolicy').create(inputs(app));
    expectFaultsMet(app);
    expect(await policies(app)).toMatchObject([{ id }]);
  });
});

describe.concurrent('DeployToken', () => {
  const inputs = (app: string) => ({ endpoint, app, expiry: '24h' });
  const statusWith = async (token: unknown, app: string) =>
    (await fetch(`${endpoint}/v1/apps/${app}`, { headers: { authorization: `${token}` } })).status;

  it('is limited to its app, and void with it', async () => {
    const provider = process.of('DeployToken');
    const [app, other] = [await world.app(), await world.app()];
    const news = await checked(provider, inputs(app));
    const { id, outs } = await provider.create(news);
    expect(id).toMatch(new RegExp(`^${app}/[0-9a-f]{12}$`));
    const { token } = outs as { token: string };
    expect(outs).toEqual({
      ...news,
      token: expect.stringMatching(/^FlyV1 fm2_/),
      expiresAt: expect.any(String),
    });
    const lifeMs = Date.parse(String(outs.expiresAt)) - Date.now();
    expect(lifeMs).toBeGreaterThan(23 * 3_600_000);
    expect(lifeMs).toBeLessThanOrEqual(24 * 3_600_000);
    expect([await statusWith(token, app), await statusWith(token, other)]).toEqual([200, 403]);

    await expect(provider.read(id, outs)).resolves.toEqual({ id, outs });
    await expect(provider.diff(id, outs, news)).resolves.toEqual(NOTHING);
    await expect(provider.diff(id, outs, { ...news, rotation: '2' })).resolves.toEqual(replacing('rotation'));
    const old = { ...outs, expiresAt: new Date(Date.now() + 7 * 3_600_000).toISOString() };
    await expect(provider.diff(id, old, news)).resolves.toEqual(replacing('expiresAt'));

    await provider.delete(id, outs);
    await world.call('DELETE', `/v1/apps/${app}?force=true`);
    await expect(provider.read(id, outs)).resolves.toEqual({ id: '', outs: {} });
    expect(process.log()).not.toContain(token);
  });

  it('is found void when a person has revoked it', async () => {
    const provider = process.of('DeployToken');
    const app = await world.app();
    const { id, outs } = await provider.create(inputs(app));
    const ask = async (query: string, variables: object) =>
      (await world.call('POST', '/graphql', { query, variables })).data;
    const list = 'query ($appName: String!) { app(name: $appName) { limitedAccessTokens { nodes { id } } } }';
    const [given] = (await ask(list, { appName: app })).app.limitedAccessTokens.nodes;
    await ask('mutation { deleteLimitedAccessToken(input: $input) { token } }', { input: { id: given.id } });
    expect(await statusWith(outs.token, app)).toBe(401);
    await expect(provider.read(id, outs)).resolves.toEqual({ id: '', outs: {} });
  });

  it('asks for another one when the answer was lost', async () => {
    const app = await world.app();
    loseAnswer(app, 'app.deploy_token', 'POST');
    const { outs } = await process.of('DeployToken').create(inputs(app));
    expectFaultsMet(app);
    expect(await statusWith(outs.token, app)).toBe(200);
  });
});

describe.concurrent('Secrets', () => {
  const inputs = (app: string, values: Record<string, string>) => ({ endpoint, app, values });
  const there = async (app: string): Promise<Record<string, string>> => {
    const { secrets } = await world.call('GET', `/v1/apps/${app}/secrets?show_secrets=true`);
    return Object.fromEntries(secrets.map(({ name, value }: Record<string, string>) => [name, value]));
  };

  it('sets, changes and removes in one call each', async () => {
    const provider = process.of('Secrets');
    const app = await world.app();
    const news = await checked(provider, inputs(app, { A: SECRET, B: '1' }));
    const { id, outs } = await provider.create(news);
    expect(id).toBe(app);
    expect(outs).toEqual({ ...news, version: 1, digests: { A: expect.any(String), B: expect.any(String) } });
    expect(process.answers()).toContain(SECRET);
    expect(await there(app)).toEqual({ A: SECRET, B: '1' });
    await expect(provider.read(id, outs)).resolves.toEqual({ id, outs });
    await expect(provider.diff(id, outs, news)).resolves.toEqual(NOTHING);

    const other = inputs(app, { A: SECRET, C: '2' });
    await expect(provider.diff(id, outs, other)).resolves.toEqual(updating);
    const changed = await provider.update(id, outs, other);
    expect(changed).toMatchObject({
      version: 2,
      digests: { A: (outs.digests as Props).A, C: expect.any(String) },
    });
    expect(await there(app)).toEqual({ A: SECRET, C: '2' });

    await provider.delete(id, changed);
    expect(await there(app)).toEqual({});
    await provider.delete(id, changed);
  });

  it('sees what was changed, removed and added by others, and mends it', async () => {
    const provider = process.of('Secrets');
    const app = await world.app();
    const news = inputs(app, { A: '1', B: '2', C: '3' });
    const { id, outs } = await provider.create(news);
    await world.call('POST', `/v1/apps/${app}/secrets`, { values: { A: 'other', B: null } });
    const drifted = await provider.read(id, outs);
    expect(drifted.outs.values).toEqual({ C: '3' });
    await expect(provider.diff(id, drifted.outs, news)).resolves.toEqual(updating);
    const mended = await provider.update(id, drifted.outs, news);
    expect(await there(app)).toEqual(news.values);

    await world.call('POST', `/v1/apps/${app}/secrets`, { values: { FOREIGN: 'x' } });
    const added = await provider.read(id, mended);
    await expect(provider.diff(id, added.outs, news)).resolves.toEqual(updating);
    await provider.update(id, added.outs, news);
    expect(await there(app)).toEqual(news.values);
  });

  it('takes over what an earlier run left, with nothing left to say when it is all there', async () => {
    const provider = process.of('Secrets');
    const app = await world.app();
    await world.call('POST', `/v1/apps/${app}/secrets`, { values: { OLD: 'x', A: 'y' } });
    loseAnswer(app, 'app.secrets', 'POST');
    const { outs } = await provider.create(inputs(app, { A: '1' }));
    expectFaultsMet(app);
    expect(await there(app)).toEqual({ A: '1' });
    expect(Object.keys(outs.digests as Props)).toEqual(['A']);
    const empty = await world.app();
    const none = await provider.create(inputs(empty, {}));
    expect(none.outs).toMatchObject({ version: 0, digests: {} });
  });

  it('keeps a value out of the error when Fly refuses it', async () => {
    const app = await world.app();
    const refusal = { kind: 'answer', action: 'app.secrets', method: 'POST', status: 400, app } as const;
    world.fly.faults.add({ ...refusal, error: `bad value ${SECRET}` });
    const refused = await failureOf(process.of('Secrets').create(inputs(app, { A: SECRET })));
    expect(refused.message).toContain('bad value [secret]');
  });
});

describe.concurrent('IpAddress', () => {
  const inputs = (app: string, type: string, more: Props = {}) => ({ endpoint, app, type, ...more });
  const addresses = async (app: string): Promise<string[]> =>
    (await world.call('GET', `/v1/apps/${app}/ip_assignments`)).ips.map(({ ip }: { ip: string }) => ip);

  it.each(['v4', 'shared_v4', 'v6', 'private_v6'])('%s: made, read, unchanged, released', async (type) => {
    const provider = process.of('IpAddress');
    const app = await world.app();
    const news = await checked(provider, inputs(app, type));
    const { id, outs } = await provider.create(news);
    expect(outs).toEqual({ ...news, address: id });
    expect(await addresses(app)).toEqual([id]);
    await expect(provider.read(id, outs)).resolves.toEqual({ id, outs });
    await expect(provider.diff(id, outs, news)).resolves.toEqual(NOTHING);
    await provider.delete(id, outs);
    expect(await addresses(app)).toEqual([]);
    await provider.delete(id, outs);
    await expect(provider.read(id, outs)).resolves.toEqual({ id: '', outs: {} });
  });

  it('adopts a public address that an earlier run left', async () => {
    const app = await world.app();
    const { ip } = await world.call('POST', `/v1/apps/${app}/ip_assignments`, { type: 'v4' });
    await expect(process.of('IpAddress').create(inputs(app, 'v4'))).resolves.toMatchObject({ id: ip });
    const shared = await process.of('IpAddress').create(inputs(app, 'shared_v4'));
    expect(shared.id).not.toBe(ip);
  });

  it.each(['v4', 'private_v6'])('%s: adopts what a lost answer made', async (type) => {
    const app = await world.app();
    loseAnswer(app, 'app.ip_assignments', 'POST');
    const { id } = await process.of('IpAddress').create(inputs(app, type));
    expectFaultsMet(app);
    expect(await addresses(app)).toEqual([id]);
  });

  it('keeps the addresses of several networks apart, though an answer was lost', async () => {
    const app = await world.app();
    loseAnswer(app, 'app.ip_assignments', 'POST');
    const made = await Promise.all(
      ['one', 'two'].map((network) => process.of('IpAddress').create(inputs(app, 'private_v6', { network }))),
    );
    expectFaultsMet(app);
    expect(await addresses(app)).toEqual(made.map(({ id }) => id));
  });

  it('fails, with nothing made, on a 500 without effect', async () => {
    const app = await world.app();
    fault(app, 'app.ip_assignments', 'POST', 500);
    await expect(process.of('IpAddress').create(inputs(app, 'v6'))).rejects.toThrow(/allocateIp .*trouble/);
    expect(await addresses(app)).toEqual([]);
  });

  it('refuses a network where it means nothing', async () => {
    const news = inputs('any', 'v6', { network: 'n' });
    await expect(process.of('IpAddress').create(news)).rejects.toThrow(/^network: only .*private_v6.*"v6"/);
  });
});

describe.concurrent('Machine', () => {
  const image = 'registry.fly.io/controller@sha256:1';
  const inputs = (app: string, more: Props = {}) => ({
    endpoint,
    app,
    name: 'ctl-1',
    region: 'ams',
    config: { image, env: { LEVEL: 'info' }, stop_config: { signal: 'SIGTERM', timeout: '2s' } },
    startTimeoutSeconds: 10,
    ...more,
  });
  const withLevel = (app: string, LEVEL: string) => {
    const news = inputs(app);
    return { ...news, config: { ...news.config, env: { LEVEL } } };
  };
  const machines = async (app: string): Promise<Props[]> =>
    (await world.call('GET', `/v1/apps/${app}/machines`)).filter(({ state }: Props) => state !== 'destroyed');
  const getMachine = (app: string, id: string) => world.call('GET', `/v1/apps/${app}/machines/${id}`);

  it('is made and runs, is updated in place, and is stopped before it is destroyed', async () => {
    const provider = process.of('Machine');
    const app = await world.app();
    const news = await checked(provider, inputs(app));
    const { id, outs } = await provider.create(news);
    const live = await getMachine(app, id);
    expect(outs).toEqual({
      ...news,
      machineId: id,
      instanceId: live.instance_id,
      privateIp: live.private_ip,
      state: 'started',
    });
    await expect(provider.read(id, outs)).resolves.toEqual({ id, outs });
    await expect(provider.diff(id, outs, news)).resolves.toEqual(NOTHING);

    const before = world.engine.running.get(id)!;
    const other = withLevel(app, 'debug');
    await expect(provider.diff(id, outs, other)).resolves.toEqual(updating);
    const changed = await provider.update(id, outs, other);
    expect(before.signals).toEqual(['SIGTERM']);
    expect(changed).toMatchObject({ machineId: id, state: 'started', config: other.config });
    expect(changed.instanceId).not.toBe(outs.instanceId);
    await expect(getMachine(app, id)).resolves.toMatchObject({ config: { env: { LEVEL: 'debug' } } });
    await expect(world.call('GET', `/v1/apps/${app}/machines/${id}/lease`)).resolves.toMatchObject({
      message: 'lease not found',
    });

    const last = world.engine.running.get(id)!;
    await provider.delete(id, changed);
    expect(last.signals).toEqual(['SIGTERM']);
    expect(await machines(app)).toEqual([]);
    await provider.delete(id, changed);
    await expect(provider.read(id, changed)).resolves.toEqual({ id: '', outs: {} });
  });

  it('is replaced for another region, old one first, and falls with its app', async () => {
    const provider = process.of('Machine');
    const olds = { ...inputs('any'), state: 'started' };
    for (const [key, value] of Object.entries({ region: 'fra', name: 'ctl-2', app: UNKNOWN })) {
      await expect(provider.diff('id', olds, { ...inputs('any'), [key]: value })).resolves.toEqual({
        changes: true,
        replaces: [key],
        deleteBeforeReplace: true,
      });
    }
  });

  it('adopts what a lost answer made, after a 429', async () => {
    const app = await world.app();
    fault(app, 'machine.create', 'POST', 429);
    loseAnswer(app, 'machine.create', 'POST');
    const { id } = await process.of('Machine').create(inputs(app));
    expectFaultsMet(app);
    expect(await machines(app)).toMatchObject([{ id, name: 'ctl-1' }]);
    expect(world.engine.boots.filter((boot) => boot === id)).toHaveLength(1);
  });

  it('brings what a killed run left to the configuration, and leaves it alone when it has it', async () => {
    const provider = process.of('Machine');
    const app = await world.app();
    const first = await provider.create(inputs(app));
    const same = await provider.create(inputs(app));
    expect(same).toEqual(first);
    const other = await provider.create(withLevel(app, 'debug'));
    expect(other.id).toBe(first.id);
    expect(await machines(app)).toMatchObject([{ id: first.id, config: { env: { LEVEL: 'debug' } } }]);
  });

  it('refuses a machine of its name that somebody else made', async () => {
    const app = await world.app();
    const theirs = await world.call('POST', `/v1/apps/${app}/machines`, { name: 'ctl-1', config: { image } });
    const refused = await failureOf(process.of('Machine').create(inputs(app)));
    expect(refused.message).toContain(`(${theirs.id}) that was not made by Pulumi`);
    expect(process.log()).toContain(refused.message);
    expect(refused.id).toBeUndefined();
  });

  it('finds out whether an update without an answer was made', async () => {
    const provider = process.of('Machine');
    const app = await world.app();
    const { id, outs } = await provider.create(inputs(app));
    loseAnswer(app, 'machine.update', 'POST');
    fault(app, 'machine.lease', 'POST', 500);
    const changed = await provider.update(id, outs, withLevel(app, 'debug'));
    expectFaultsMet(app);
    expect(changed).toMatchObject({ state: 'started', config: { env: { LEVEL: 'debug' } } });

    fault(app, 'machine.update', 'POST', 500);
    const failed = await failureOf(provider.update(id, changed, withLevel(app, 'warn')));
    expect(failed).toMatchObject({ message: expect.stringMatching(/updateMachine .*trouble/) });
    await expect(getMachine(app, id)).resolves.toMatchObject({ config: { env: { LEVEL: 'debug' } } });
    await expect(provider.update(id, changed, withLevel(app, 'warn'))).resolves.toMatchObject({
      state: 'started',
    });
    await expect(getMachine(app, id)).resolves.toMatchObject({ config: { env: { LEVEL: 'warn' } } });
  });

  it('restarts for another version of the secrets', async () => {
    const provider = process.of('Machine');
    const app = await world.app();
    const { id, outs } = await provider.create(inputs(app));
    const { version } = await world.call('POST', `/v1/apps/${app}/secrets`, { values: { A: '1' } });
    const news = inputs(app, { minSecretsVersion: version });
    await expect(provider.diff(id, outs, news)).resolves.toEqual(updating);
    await provider.update(id, outs, news);
    expect(world.engine.running.get(id)?.spec.env).toMatchObject({ A: '1' });
  });

  it('shows what was changed, stopped or destroyed by others as drift, and mends it', async () => {
    const provider = process.of('Machine');
    const app = await world.app();
    const news = inputs(app);
    const { id, outs } = await provider.create(news);
    const path = `/v1/apps/${app}/machines/${id}`;
    await world.call('POST', path, { config: { ...news.config, env: { LEVEL: 'hacked' } } });
    const drifted = await provider.read(id, outs);
    await expect(provider.diff(id, drifted.outs, news)).resolves.toEqual(updating);
    const mended = await provider.update(id, drifted.outs, news);
    await expect(getMachine(app, id)).resolves.toMatchObject({ config: { env: { LEVEL: 'info' } } });

    await world.call('POST', `${path}/stop`);
    await vi.waitFor(async () => expect((await getMachine(app, id)).state).toBe('stopped'), SOON);
    const stopped = await provider.read(id, mended);
    await expect(provider.diff(id, stopped.outs, news)).resolves.toEqual(updating);
    const started = await provider.update(id, stopped.outs, news);
    expect(started).toMatchObject({ state: 'started', instanceId: mended.instanceId });

    await world.call('DELETE', `${path}?force=true`);
    await expect(provider.read(id, started)).resolves.toEqual({ id: '', outs: {} });
  });

  it('is kept in the state when it does not start, and replaced when it never will', async () => {
    const provider = process.of('Machine');
    const app = await world.app();
    broken.add(app);
    const failed = await failureOf(provider.create(inputs(app)));
    const [machine] = await machines(app);
    const { __provider, ...properties } = failed.properties!;
    expect(failed).toMatchObject({
      id: machine!.id,
      reasons: [expect.stringMatching(/will not run: its state is failed/)],
    });
    expect(properties).toMatchObject({ ...inputs(app), machineId: machine!.id, state: 'failed' });
    // Without it nobody could read or delete it later.
    expect(__provider).toBe(process.printed.Machine.provider);
    await expect(provider.diff(failed.id!, properties, inputs(app))).resolves.toEqual({
      changes: true,
      replaces: ['state'],
      deleteBeforeReplace: true,
    });
    await provider.delete(failed.id!, properties);
    expect(await machines(app)).toEqual([]);
  });

  it('is kept in the state when it is not ready in time, and goes on from there', async () => {
    const provider = process.of('Machine');
    const app = await world.app();
    world.fly.faults.add({ kind: 'stuck', state: 'starting', app });
    const late = await failureOf(provider.create(inputs(app, { startTimeoutSeconds: 0.1 })));
    expect(late).toMatchObject({
      id: expect.stringMatching(/./),
      reasons: [expect.stringMatching(/not within 0.1 s; its state is starting/)],
    });
    const [{ id }] = (await machines(app)) as [{ id: string }];
    expect(late.id).toBe(id);
    await world.call('POST', `/v1/apps/${app}/machines/${id}/stop`);
    const { __provider, ...olds } = late.properties!;
    await expect(provider.diff(id, olds, inputs(app))).resolves.toEqual(updating);
    await expect(provider.update(id, olds, inputs(app))).resolves.toMatchObject({
      machineId: id,
      state: 'started',
    });
  });

  it('is made, updated and deleted without ever being started where it is not to run, and stopped again', async () => {
    const provider = process.of('Machine');
    const app = await world.app();
    const news = await checked(provider, inputs(app, { launch: false }));
    const { id, outs } = await provider.create(news);
    expect(outs).toMatchObject({ state: 'created', launch: false });
    await expect(provider.diff(id, outs, news)).resolves.toEqual(NOTHING);
    await expect(provider.read(id, outs)).resolves.toEqual({ id, outs });

    const other = { ...withLevel(app, 'debug'), launch: false };
    await expect(provider.diff(id, outs, other)).resolves.toEqual(updating);
    const changed = await provider.update(id, outs, other);
    expect(changed).toMatchObject({ state: 'created', machineId: id });
    expect(changed.instanceId).not.toBe(outs.instanceId);
    await expect(getMachine(app, id)).resolves.toMatchObject({ config: { env: { LEVEL: 'debug' } } });
    expect(world.engine.boots).not.toContain(id);

    await world.call('POST', `/v1/apps/${app}/machines/${id}/start`);
    await vi.waitFor(async () => expect((await getMachine(app, id)).state).toBe('started'), SOON);
    const running = await provider.read(id, changed);
    await expect(provider.diff(id, running.outs, other)).resolves.toEqual(updating);
    const stopped = await provider.update(id, running.outs, other);
    expect(stopped.state).toBe('stopped');
    await expect(provider.diff(id, stopped, other)).resolves.toEqual(NOTHING);

    await provider.delete(id, stopped);
    expect(await machines(app)).toEqual([]);
  });

  it('that is not to run is adopted after a lost answer', async () => {
    const app = await world.app();
    loseAnswer(app, 'machine.create', 'POST');
    const { id, outs } = await process.of('Machine').create(inputs(app, { launch: false }));
    expectFaultsMet(app);
    expect(outs.state).toBe('created');
    expect(await machines(app)).toMatchObject([{ id }]);
    expect(world.engine.boots).not.toContain(id);
  });

  it('is destroyed once the lease of somebody else has ended', async () => {
    const provider = process.of('Machine');
    const app = await world.app();
    const { id, outs } = await provider.create(inputs(app));
    const held = { status: 409, error: `machine ID ${id} lease currently held by somebody` };
    world.fly.faults.add({ kind: 'answer', action: 'machine.destroy', app, ...held });
    await provider.delete(id, outs);
    expectFaultsMet(app);
    expect(await machines(app)).toEqual([]);
  });
});

it.concurrent('asks for the token by name when the environment has none', async () => {
  const creating = tokenless.of('App').create({ endpoint, name: 'a', org: ORG });
  await expect(creating).rejects.toThrow(/^FLY_API_TOKEN is not set/);
});

describe('RandomSecret', () => {
  it('is another one each time, and replaced on rotation', async () => {
    const provider = process.of('RandomSecret');
    const news = await checked(provider, { bytes: 32 });
    const [one, two] = [await provider.create(news), await provider.create(news)];
    expect(Buffer.from(String(one.outs.value), 'base64url')).toHaveLength(32);
    expect(one.outs.value).not.toBe(two.outs.value);
    expect(one.id).not.toBe(two.id);
    await expect(provider.read(one.id, one.outs)).resolves.toEqual(one);
    await expect(provider.diff(one.id, one.outs, news)).resolves.toEqual(NOTHING);
    await expect(provider.diff(one.id, one.outs, { ...news, rotation: '2' })).resolves.toEqual(
      replacing('rotation'),
    );
    await provider.delete(one.id, one.outs);
  });

  it('refuses too little of it', async () => {
    await expect(process.of('RandomSecret').create({ bytes: 8 })).rejects.toThrow(
      /^bytes must be .*it is 8$/,
    );
  });
});

describe('the classes', () => {
  it('say which inputs and outputs are secret', () => {
    const secretsOf = (inputs: Props) =>
      Object.entries(inputs).flatMap(([key, value]) =>
        JSON.stringify(value).includes('4dabf18193072939515e22adb298388d') ? [key] : [],
      );
    const { printed } = process;
    expect(
      Object.entries(printed).map(([name, one]) => [
        name,
        one.type,
        secretsOf(one.inputs),
        one.additionalSecretOutputs,
      ]),
    ).toEqual([
      ['App', 'pulumi-nodejs:dynamic/fly:App', [], []],
      ['NetworkPolicy', 'pulumi-nodejs:dynamic/fly:NetworkPolicy', [], []],
      ['DeployToken', 'pulumi-nodejs:dynamic/fly:DeployToken', [], ['token']],
      ['Secrets', 'pulumi-nodejs:dynamic/fly:Secrets', ['values'], ['values']],
      ['IpAddress', 'pulumi-nodejs:dynamic/fly:IpAddress', [], []],
      ['Machine', 'pulumi-nodejs:dynamic/fly:Machine', [], []],
      ['RandomSecret', 'pulumi-nodejs:dynamic/mobvibe:RandomSecret', [], ['value']],
      ['ApiKey', 'pulumi-nodejs:dynamic/mobvibe:ApiKey', ['serviceRoleKey'], ['key', 'serviceRoleKey']],
    ]);
  });

  it('have the defaults that they are documented with', () => {
    const { NetworkPolicy, Machine, RandomSecret } = process.printed;
    expect(NetworkPolicy.inputs.selector).toEqual({ all: true });
    expect(Machine.inputs.startTimeoutSeconds).toBe(180);
    expect(RandomSecret.inputs.bytes).toBe(32);
  });

  it('carry providers that are no more than pointers into this package', () => {
    for (const { provider } of Object.values(process.printed)) {
      expect(provider).toMatch(/import\('mobvibe-sandboxes\/infra\/operations\/[a-z-]+'\)/);
      expect(provider.length).toBeLessThan(3_000);
    }
  });
});
