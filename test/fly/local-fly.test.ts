import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type CallEvent, createFlyClient, type FlyClient } from '../../fly/index.ts';
import type { Clock } from '../../local/fly/clock.ts';
import type { Fault } from '../../local/fly/faults.ts';
import { type LocalFly, startLocalFly } from '../../local/fly/server.ts';
import { VirtualClock } from '../../local/fly/simulated/clock.ts';
import { createSimulatedEngine } from '../../local/fly/simulated/engine.ts';
import { immediateTimings } from '../../local/fly/timings.ts';
import { failureOf } from './scripted-server.ts';

const APP = 'cell';
const CONFIG = {
  image: 'registry.fly.io/sandbox:1',
  guest: { cpu_kind: 'shared' as const, cpus: 1, memory_mb: 512 },
  restart: { policy: 'no' as const },
  metadata: { session: 'one' },
};
const REQUEST = { name: 's-one-1', region: 'sjc', config: CONFIG };

interface Rig {
  local: LocalFly;
  fly: FlyClient;
  events: CallEvent[];
}

/**
 * Local Fly with its rate limits on, the client against it, and an app. Real time, unless a virtual clock is
 * given to both.
 */
async function rig({ clock, faults = [] }: { clock?: VirtualClock; faults?: Fault[] } = {}): Promise<Rig> {
  const stateDir = await mkdtemp(join(tmpdir(), 'fly-client-'));
  const given: { clock?: Clock } = clock === undefined ? {} : { clock };
  const local = await startLocalFly({
    ...given,
    engine: createSimulatedEngine(),
    stateDir,
    tokens: ['local-token'],
    timings: immediateTimings,
    faults,
  });
  const events: CallEvent[] = [];
  const time = clock && { clock: () => clock.now(), sleep: (ms: number) => clock.advance(ms) };
  const onCall = (event: CallEvent): void => void events.push(event);
  const fly = createFlyClient({ token: 'local-token', baseUrl: local.url, ...time, onCall });
  onTestFinished(async () => {
    fly.close();
    await local.close();
    await rm(stateDir, { recursive: true });
  });
  await fly.createApp({ name: APP, org_slug: 'personal' });
  return { local, fly, events };
}

describe('against local Fly', () => {
  it('carries a machine through its life', async () => {
    const { fly } = await rig();
    const { id } = await fly.createMachine(APP, REQUEST);
    await expect(fly.waitForState(APP, id, 'started', { justCreated: true })).resolves.toMatchObject({
      state: 'started',
    });
    await expect(fly.exec(APP, id, { command: ['true'] })).resolves.toMatchObject({ exit_code: 0 });
    await fly.stopMachine(APP, id, { stopSignal: 'SIGTERM', grace: '1s' });
    await fly.waitForState(APP, id, 'stopped');
    await expect(fly.startMachine(APP, id)).resolves.toMatchObject({ previous_state: 'stopped' });
    await fly.waitForState(APP, id, 'started');
    expect((await fly.listEvents(APP, id)).map(({ type }) => type)).toContain('exit');
    expect(await failureOf(fly.destroyMachine(APP, id))).toMatchObject({ kind: 'precondition', status: 412 });
    await fly.destroyMachine(APP, id, { force: true });
    await expect(fly.waitForState(APP, id, 'destroyed')).resolves.toMatchObject({ state: 'destroyed' });
    await expect(fly.getMachine(APP, id)).resolves.toMatchObject({ state: 'destroyed' });
    await expect(fly.listMachines(APP)).resolves.toEqual([]);
  });

  it('finds machines by metadata, and changes it', async () => {
    const { fly } = await rig();
    const { id } = await fly.createMachine(APP, REQUEST);
    await fly.createMachine(APP, { ...REQUEST, name: 's-two-1', config: { ...CONFIG, metadata: {} } });
    await expect(fly.listMachines(APP, { metadata: { session: 'one' } })).resolves.toMatchObject([{ id }]);
    await fly.setMetadata(APP, id, 'doom', 'soon');
    await expect(fly.getMetadata(APP, id)).resolves.toMatchObject({ session: 'one', doom: 'soon' });
    await fly.deleteMetadata(APP, id, 'doom');
    await expect(fly.listMachines(APP, { metadata: { doom: 'soon' }, summary: true })).resolves.toEqual([]);
  });

  it('is kept out by a lease, and let in with its nonce', async () => {
    const { fly } = await rig();
    const { id } = await fly.createMachine(APP, REQUEST);
    await fly.waitForState(APP, id, 'started');
    const { nonce } = await fly.acquireLease(APP, id, { ttlSeconds: 60 });
    expect(await failureOf(fly.stopMachine(APP, id))).toMatchObject({
      kind: 'conflict',
      reason: 'lease_held',
    });
    await fly.stopMachine(APP, id, { nonce });
    await fly.releaseLease(APP, id, nonce);
    expect(await failureOf(fly.getLease(APP, id))).toMatchObject({ kind: 'not_found' });
  });

  it('updates with the version it has read, and not with an older one', async () => {
    const { fly } = await rig();
    const { id, instance_id: first } = await fly.createMachine(APP, REQUEST);
    await fly.waitForState(APP, id, 'started');
    const config = { ...CONFIG, env: { A: '1' } };
    const updated = await fly.updateMachine(APP, id, { config, current_version: first! });
    expect(updated.instance_id).not.toBe(first);
    const late = fly.updateMachine(APP, id, { config, current_version: first! });
    expect(await failureOf(late)).toMatchObject({ kind: 'conflict', reason: 'version_mismatch' });
  });

  it('sets up an app: secrets, policies, addresses, a token of its own', async () => {
    const { fly, local } = await rig({ clock: new VirtualClock() });
    const { version } = await fly.setSecrets(APP, { A: 'x', B: 'y' });
    expect((await fly.setSecrets(APP, { B: null })).version).toBeGreaterThan(version);
    expect((await fly.listSecrets(APP)).map(({ name }) => name)).toEqual(['A']);

    const closed = { name: 'closed', selector: { all: true as const }, rules: [] };
    const policy = await fly.putNetworkPolicy(APP, closed);
    expect((await fly.putNetworkPolicy(APP, closed)).id).toBe(policy.id);
    await fly.deleteNetworkPolicy(APP, policy.id);
    await fly.deleteNetworkPolicy(APP, policy.id);

    const { ip } = await fly.allocateIp(APP, { type: 'private_v6' });
    expect((await fly.listIps(APP)).map((one) => one.ip)).toEqual([ip]);
    await fly.releaseIp(APP, ip);

    const token = await fly.createDeployToken(APP, '1h');
    const deployer = createFlyClient({ token, baseUrl: local.url });
    onTestFinished(() => deployer.close());
    await expect(deployer.getApp(APP)).resolves.toMatchObject({ name: APP });
    expect(await failureOf(deployer.createApp({ name: 'more', org_slug: 'personal' }))).toMatchObject({
      kind: 'auth',
    });
    expect((await fly.listRegions()).map(({ code }) => code)).toContain('sjc');
  });

  it('creates an app that is ours again, and deletes it twice', async () => {
    const { fly } = await rig();
    await expect(fly.createApp({ name: APP, org_slug: 'personal' })).resolves.toMatchObject({ name: APP });
    await fly.deleteApp(APP, { force: true });
    await fly.deleteApp(APP, { force: true });
  });

  const LOST: [what: string, faults: Fault[]][] = [
    ['an answer is lost', [{ kind: 'lost_answer', action: 'machine.create' }]],
    [
      'an answer is lost and the list is behind',
      [{ kind: 'lost_answer', action: 'machine.create' }, { kind: 'empty_list' }],
    ],
    [
      'Fly answers 408 after the work',
      [{ kind: 'answer', action: 'machine.create', status: 408, error: 'deadline_exceeded', done: true }],
    ],
    [
      'Fly answers 502 without the work',
      [{ kind: 'answer', action: 'machine.create', status: 502, error: 'Bad Gateway' }],
    ],
    [
      'Fly refuses for the rate',
      [{ kind: 'answer', action: 'machine.create', status: 429, error: 'rate limit exceeded' }],
    ],
  ];

  it.each(LOST)('makes one machine, and one only, when %s', async (_what, faults) => {
    const { fly } = await rig({ clock: new VirtualClock(), faults });
    const machine = await fly.createMachine(APP, REQUEST);
    await expect(fly.listMachines(APP, { includeDeleted: true })).resolves.toMatchObject([
      { id: machine.id },
    ]);
  });

  it('knows lack of room and the end of a quota', async () => {
    const { fly, local } = await rig({ clock: new VirtualClock() });
    const refusal = (reason: 'region' | 'host' | 'memory' | 'ips' | 'machine_limit') => {
      local.faults.add({ kind: 'capacity', reason });
      return failureOf(fly.createMachine(APP, REQUEST));
    };
    expect(await refusal('region')).toMatchObject({ kind: 'capacity', scope: 'region' });
    expect(await refusal('host')).toMatchObject({ kind: 'capacity', scope: 'host' });
    expect(await refusal('memory')).toMatchObject({ kind: 'capacity', scope: 'region' });
    expect(await refusal('ips')).toMatchObject({ kind: 'capacity', scope: 'host' });
    expect(await refusal('machine_limit')).toMatchObject({ kind: 'quota' });
    await expect(fly.listMachines(APP)).resolves.toEqual([]);
  });

  it('stays under the rate limits by itself', async () => {
    const { fly, events } = await rig({ clock: new VirtualClock() });
    const { id } = await fly.createMachine(APP, REQUEST);
    for (let n = 0; n < 8; n++) await fly.setMetadata(APP, id, 'n', `${n}`);
    for (let n = 0; n < 25; n++) await fly.getMachine(APP, id);
    for (let n = 0; n < 6; n++) await fly.createMachine(APP, { ...REQUEST, name: `s-many-${n}` });
    for (let n = 0; n < 6; n++) await fly.listMachines(APP, { summary: true });
    expect(events.filter(({ status }) => status === 429)).toEqual([]);
    expect(events.some(({ queuedMs }) => queuedMs > 900)).toBe(true);
  });

  it('is told when its token is not valid', async () => {
    const { local } = await rig();
    const stranger = createFlyClient({ token: 'another-token', baseUrl: local.url });
    onTestFinished(() => stranger.close());
    expect(await failureOf(stranger.listMachines(APP))).toMatchObject({ kind: 'auth', status: 401 });
  });
});
