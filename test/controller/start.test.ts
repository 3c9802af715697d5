import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { CodedError } from '../../controller/errors.ts';
import type { Fault } from '../../local/fly/faults.ts';
import { FakeAgent } from './fake-agent.ts';
import { TIMES, World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.closeAll());
afterAll(() => world.end());

describe('a start whose create goes wrong', () => {
  it.each<[string, Fault[]]>([
    ['the answer is lost', [{ kind: 'lost_answer', action: 'machine.create' }]],
    [
      'Fly says 408 after the work',
      [{ kind: 'answer', action: 'machine.create', status: 408, error: 'x', done: true }],
    ],
    [
      'Fly says 502 without the work',
      [{ kind: 'answer', action: 'machine.create', status: 502, error: 'bad gateway' }],
    ],
    [
      'the answer is lost and the list is behind',
      [
        { kind: 'lost_answer', action: 'machine.create' },
        { kind: 'empty_list', times: 2 },
      ],
    ],
    ['there is no room for a moment', [{ kind: 'capacity', reason: 'region' }]],
    ['Fly refuses the rate', [{ kind: 'answer', action: 'machine.create', status: 429, error: 'slow down' }]],
  ] as [string, Fault[]][])('still has one machine: %s', async (what, faults) => {
    const id = what.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
    const app = await world.app();
    const { manager } = await world.controller(app);
    for (const fault of faults) world.fly.faults.add(fault);
    expect(await manager.createSandbox({ sessionId: id })).toMatchObject({ status: 'ready', incarnation: 1 });
    expect(await world.live(app)).toHaveLength(1);
    expect(world.boots.filter((name) => name === `s-${id}-1`)).toHaveLength(1);
  });

  it('never adopts or touches a machine of this name that is not ours', async () => {
    const app = await world.app();
    const config = {
      image: 'theirs:1',
      metadata: { mobvibe_stack: 'another', mobvibe_sandbox: 's-taken-1' },
    };
    const theirs = await world.client.createMachine(app, { name: 's-taken-1', config });
    const { manager } = await world.controller(app);
    await expect(manager.createSandbox({ sessionId: 'taken' })).rejects.toMatchObject({
      code: 'session_start_failed',
    });
    expect(await world.client.getMachine(app, theirs.id)).toMatchObject({ state: 'started' });
  });

  it.each<[string, string, Fault]>([
    ['full', 'fly_capacity', { kind: 'capacity', reason: 'region', times: 50 }],
    [
      'limit',
      'fly_quota',
      {
        kind: 'answer',
        action: 'machine.create',
        status: 422,
        error: 'Your organization has reached its machine limit.',
      },
    ],
    [
      'image',
      'session_start_failed',
      { kind: 'answer', action: 'machine.create', status: 400, error: 'no such image' },
    ],
  ])('ends with its own code when it can’t succeed: %s', async (id, code, fault) => {
    const app = await world.app();
    const { manager, lifecycle } = await world.controller(app);
    world.fly.faults.add(fault);
    await expect(manager.createSandbox({ sessionId: id })).rejects.toMatchObject({ code });
    expect(await world.store.getSession(id)).toMatchObject({
      status: 'failed',
      error: { code },
      sandbox_id: null,
    });
    world.fly.faults.clear();
    // Where Fly has refused, the cell takes no start for a while.
    await expect
      .poll(() => lifecycle.startSandbox(id).catch((error: CodedError) => ({ status: error.code })))
      .toMatchObject({ status: 'ready', incarnation: 2 });
  });

  it('ends by its deadline when Fly is down, and leaves nothing when Fly comes back', async () => {
    const app = await world.app();
    const { manager } = await world.controller(app, { env: { MOBVIBE_START_TIMEOUT_MS: '1000' } });
    world.fly.faults.add({
      kind: 'answer',
      action: 'machine.create',
      status: 503,
      error: 'away',
      done: true,
      times: 99,
    });
    world.fly.faults.add({ kind: 'answer', action: 'machine.list', status: 503, error: 'away', times: 99 });
    const started = manager.createSandbox({ sessionId: 'down' });
    started.catch(() => undefined);
    await world.until(async () => (await world.store.getSession('down')).status === 'stopping');
    world.fly.faults.clear();
    await expect(started).rejects.toMatchObject({ code: 'fly_unavailable' });
    await world.until(async () => (await world.live(app)).length === 0);
    expect(await world.store.getSession('down')).toMatchObject({
      status: 'failed',
      error: { code: 'fly_unavailable' },
    });
  });
});

describe('a start whose machine goes wrong', () => {
  it('ends by its deadline when no agent calls, and the machine is destroyed', async () => {
    const app = await world.app();
    world.mute.add('s-silent-1');
    const { manager } = await world.controller(app, { env: { MOBVIBE_START_TIMEOUT_MS: '1000' } });
    await expect(manager.createSandbox({ sessionId: 'silent' })).rejects.toMatchObject({
      code: 'session_start_timeout',
    });
    expect(await world.live(app)).toEqual([]);
  });

  it('ends as failed when the files can’t be restored as they were', async () => {
    const app = await world.app();
    const { manager, lifecycle } = await world.controller(app, { env: { MOBVIBE_START_TIMEOUT_MS: '1500' } });
    await manager.createSandbox({ sessionId: 'spoiled' });
    world.running('s-spoiled-1').inside.files.set('a', 'content');
    await manager.destroySandbox('spoiled');
    world.onBoot = (_name, inside) => {
      const error = { code: 'restore_failed', detail: 'a pack has other content' };
      inside.failures.push({ path: '/workspace/restore', times: 99, status: 503, error });
    };
    await expect(lifecycle.startSandbox('spoiled')).rejects.toMatchObject({ code: 'restore_failed' });
    expect(await world.live(app)).toEqual([]);
    // The saved version is what it was.
    world.onBoot = undefined;
    await lifecycle.startSandbox('spoiled');
    expect(world.running('s-spoiled-3').inside.files.get('a')).toBe('content');
  });

  it('is not ready before the files are back', async () => {
    const app = await world.app();
    const { manager } = await world.controller(app);
    let letGo: () => void = () => undefined;
    world.onBoot = (_name, inside) => {
      inside.gates.set('/workspace/restore', new Promise((resolve) => (letGo = resolve)));
    };
    expect(await manager.createSandbox({ sessionId: 'gated' }, { waitMs: 0 })).toMatchObject({
      status: 'starting',
    });
    await world.until(() =>
      world.machines.get('s-gated-1')?.inside.requests.includes('POST /workspace/restore'),
    );
    expect(await world.store.getSession('gated')).toMatchObject({ status: 'starting' });
    const exec = manager.execCommand('gated', 'echo later');
    letGo();
    expect((await exec).stdout).toBe('later\n');
  });

  it('tells why it failed even while Fly is away and nothing can be cleared up', async () => {
    const app = await world.app();
    const { manager } = await world.controller(app, {
      env: { MOBVIBE_START_TIMEOUT_MS: '1000' },
      times: { ...TIMES, waitSlackMs: 500 },
    });
    world.fly.faults.add({ kind: 'answer', action: 'machine.create', status: 503, error: 'away', times: 99 });
    world.fly.faults.add({ kind: 'answer', action: 'machine.list', status: 503, error: 'away', times: 99 });
    await expect(manager.createSandbox({ sessionId: 'away' })).rejects.toMatchObject({
      code: 'fly_unavailable',
    });
    // The row is there until Fly has said that nothing was made; the session does not wait for that.
    expect(await world.sandboxes('away')).toMatchObject([{ state: 'destroying' }]);
    await world.until(async () => (await world.store.getSession('away')).status === 'failed');
  });

  it('can be stopped while it starts', async () => {
    const app = await world.app();
    world.mute.add('s-hasty-1');
    const { manager } = await world.controller(app);
    await manager.createSandbox({ sessionId: 'hasty' }, { waitMs: 0 });
    await world.until(() => world.boots.includes('s-hasty-1'));
    expect(await manager.destroySandbox('hasty')).toMatchObject({ status: 'stopped', head: 0, error: null });
    expect(await world.live(app)).toEqual([]);
  });
});

describe('one session', () => {
  it('has one sandbox, however many ask at once', async () => {
    const app = await world.app();
    const { manager } = await world.controller(app);
    const all = await Promise.all(
      Array.from({ length: 8 }, () => manager.createSandbox({ sessionId: 'many' })),
    );
    expect(all.filter(({ created }) => created)).toHaveLength(1);
    expect(new Set(all.map(({ sandbox_id }) => sandbox_id)).size).toBe(1);
    expect(await world.live(app)).toHaveLength(1);
  });

  it('is not started again by whoever has read its row before it was ready', async () => {
    const app = await world.app();
    const { manager, store } = await world.controller(app, { env: { MOBVIBE_CLEANUP_INTERVAL_MS: '100' } });
    await manager.createSandbox({ sessionId: 'late' });
    const { inside } = world.running('s-late-1');
    const { listLiveSandboxes, openSession } = store;
    const before = { state: 'created' } as const;
    let looks = 0;
    store.listLiveSandboxes = async (of) => {
      looks += 1;
      return (await listLiveSandboxes(of)).map((row) => ({ ...row, ...before }));
    };
    store.openSession = async (open) => {
      const opened = await openSession(open);
      const session = { ...opened.session, status: 'starting' } as const;
      return { ...opened, session, sandbox: { ...opened.sandbox, ...before } };
    };
    await manager.createSandbox({ sessionId: 'late' });
    await world.until(() => looks >= 3);
    expect(inside.requests.filter((request) => request === 'POST /workspace/restore')).toHaveLength(1);
  });

  it('is a conflict with other settings', async () => {
    const { manager } = await world.controller(await world.app());
    await manager.createSandbox({ sessionId: 'twice' });
    await expect(manager.createSandbox({ sessionId: 'twice', memory: 1024 })).rejects.toMatchObject({
      code: 'session_conflict',
    });
  });

  it.each([
    [{ sessionId: 'Bad' }, 'invalid_id', 'sessionId'],
    [{ sessionId: 'x', region: 'San Jose' }, 'invalid_request', 'region'],
    [{ sessionId: 'x', cpuKind: 'huge' as 'shared' }, 'invalid_request', 'cpuKind'],
    [{ sessionId: 'x', cpus: 3 }, 'invalid_request', 'cpus'],
    [{ sessionId: 'x', memory: 4096 }, 'invalid_request', 'memory'],
    [{ sessionId: 'x', cpuKind: 'performance' as const, memory: 512 }, 'invalid_request', 'memory'],
  ])('is refused as %j', async (request, code, field) => {
    const { manager } = await world.controller(await world.app());
    await expect(manager.createSandbox(request)).rejects.toMatchObject({ code, field });
  });

  it('refuses the agent of an older incarnation', async () => {
    const app = await world.app();
    const { manager, lifecycle, hub } = await world.controller(app);
    await manager.createSandbox({ sessionId: 'older' });
    const first = world.running('s-older-1');
    await manager.destroySandbox('older');
    await lifecycle.startSandbox('older');

    const url = `ws+unix:${world.dir}/${app}.sock:/v1/agent`;
    const ghost = new FakeAgent(url, first.agent.token).start();
    await world.until(() => ghost.refused === 403);
    ghost.stop();
    expect(hub.get('s-older-1')).toBeUndefined();
    // What it could write, it may not.
    const [older] = await world.sandboxes('older');
    const manifest = {
      sha256: 'a'.repeat(64),
      bytes: 1,
      packs: [],
      files: 0,
      fileBytes: 0,
      base: 0,
      actor: 'agent',
    };
    await expect(
      world.store.commitManifest({ sessionId: 'older', fence: older!.fence, ...manifest }),
    ).rejects.toMatchObject({ code: 'fenced' });
  });
});
