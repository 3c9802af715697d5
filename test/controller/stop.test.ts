import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.closeAll());
afterAll(() => world.end());

const AWAY = { code: 'storage_unavailable', detail: 'storage is away' };

async function open(id: string, env: Record<string, string> = {}) {
  const app = await world.app();
  const controller = await world.controller(app, { env });
  await controller.manager.createSandbox({ sessionId: id });
  const running = world.running(`s-${id}-1`);
  running.inside.files.set('work.txt', `work of ${id}`);
  return { app, controller, ...controller, ...running };
}

describe('a stop', () => {
  it('destroys the machine only after its manifest is committed', async () => {
    const { app, manager, inside } = await open('order');
    let letGo: () => void = () => undefined;
    inside.gates.set('/workspace/upload', new Promise((resolve) => (letGo = resolve)));
    const stopped = manager.destroySandbox('order');
    await world.until(() => inside.requests.includes('POST /workspace/upload'));
    expect(await world.live(app)).toMatchObject([{ state: 'started' }]);
    expect(await world.store.getSession('order')).toMatchObject({ status: 'stopping', head: 0 });
    letGo();
    expect(await stopped).toMatchObject({ status: 'stopped', head: 1 });
  });

  it('seals the agent before it saves, once, and ends what runs', async () => {
    const { manager, inside } = await open('barrier');
    const running = manager.execCommand('barrier', 'runs on');
    await world.until(() => inside.execs.size === 1);
    expect(await manager.destroySandbox('barrier')).toMatchObject({ status: 'stopped', head: 1 });
    expect(await running).toMatchObject({ result: { kind: 'signaled', signal: 'SIGTERM', by: 'stop' } });
    const asked = inside.requests.filter((path) => /seal|workspace/.test(path)).slice(1);
    expect(asked).toEqual(['POST /seal', 'POST /workspace/pack', 'POST /workspace/upload']);
  });

  it('lets nothing through on the word of a controller that knows nothing of it', async () => {
    const { app, manager, inside, hub } = await open('cut-off');
    let letGo: () => void = () => undefined;
    inside.gates.set('/workspace/upload', new Promise((resolve) => (letGo = resolve)));
    const stopped = manager.destroySandbox('cut-off');
    await world.until(() => inside.requests.includes('POST /workspace/upload'));
    // Straight to the agent, as a controller does that has the link and has not heard of the stop.
    const reply = await hub.get('s-cut-off-1')!.request({ method: 'PUT', path: '/execs/late', body: '{}' });
    await expect(reply.check()).rejects.toMatchObject({ code: 'session_stopping', kind: 'fault' });
    letGo();
    expect(await stopped).toMatchObject({ status: 'stopped' });
    expect(await world.live(app)).toEqual([]);
  });

  it('is cancelled by an open until it is sealed', async () => {
    const { manager, agent, machine, inside } = await open('second-thoughts');
    agent.stop();
    await manager.destroySandbox('second-thoughts', { waitMs: 0 });
    expect(await manager.createSandbox({ sessionId: 'second-thoughts' })).toMatchObject({
      status: 'ready',
      incarnation: 1,
    });
    world.redial(machine, inside);
    expect(await manager.execCommand('second-thoughts', 'echo here')).toMatchObject({ stdout: 'here\n' });
    expect(inside.sealed).toBe(false);
  });

  it('that is sealed is waited for by an open, which starts a new sandbox', async () => {
    const { manager, inside } = await open('in-turn');
    let letGo: () => void = () => undefined;
    inside.gates.set('/workspace/pack', new Promise((resolve) => (letGo = resolve)));
    await manager.destroySandbox('in-turn', { waitMs: 0 });
    await world.until(() => inside.sealed);
    const opened = manager.createSandbox({ sessionId: 'in-turn' });
    letGo();
    expect(await opened).toMatchObject({ status: 'ready', incarnation: 2 });
    expect(world.running('s-in-turn-2').inside.files.get('work.txt')).toBe('work of in-turn');
  });

  it('is gone by Fly’s own word before the row says so', async () => {
    const { app, manager, inside } = await open('word');
    expect(inside.restored).toBe(0);
    // The destroy is answered but not done.
    world.fly.faults.add({ kind: 'answer', action: 'machine.destroy', status: 200, error: 'x', times: 1 });
    expect(await manager.destroySandbox('word')).toMatchObject({ status: 'stopped' });
    await world.until(async () => {
      const [row] = await world.sandboxes('word');
      if (row!.state !== 'gone') return false;
      expect(await world.live(app)).toEqual([]);
      return true;
    });
  });

  it('whose save fails keeps the sandbox, says so at once, and ends when a later save succeeds', async () => {
    const { app, manager, inside } = await open('retry');
    inside.failures.push({ path: '/workspace/upload', times: 1, status: 503, error: AWAY });
    await expect(manager.destroySandbox('retry')).rejects.toMatchObject({
      code: 'save_failed',
      detail: expect.stringContaining('storage is away'),
    });
    expect(await world.store.getSession('retry')).toMatchObject({
      status: 'stopping',
      save: { state: 'failing', code: 'storage_unavailable' },
    });
    expect(await world.live(app)).toMatchObject([{ state: 'started' }]);
    await world.until(async () => (await world.store.getSession('retry')).status === 'stopped');
    expect(await world.store.getSession('retry')).toMatchObject({
      head: 1,
      error: null,
      save: { state: 'ok' },
    });
    const kinds = (await world.store.listSessionEvents('retry', { limit: 50 })).map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind.startsWith('save.'))).toEqual(['save.failing', 'save.recovered']);
  });

  it('saves under a controller that comes long after', async () => {
    const app = await world.app();
    const first = await world.controller(app);
    await first.manager.createSandbox({ sessionId: 'orphaned' });
    const { inside } = world.running('s-orphaned-1');
    inside.files.set('work.txt', 'work');
    inside.failures.push({ path: '/workspace/upload', times: 999, status: 503, error: AWAY });
    await first.lifecycle.stopSandbox('orphaned', 'test', { waitMs: 0 });
    await world.until(() => inside.requests.includes('POST /workspace/upload'));
    await world.close(first);
    inside.failures[0]!.times = 1;
    await world.controller(app, { env: { MOBVIBE_CLEANUP_INTERVAL_MS: '200' } });
    await world.until(async () => (await world.store.getSession('orphaned')).sandbox_id === null);
    expect(await world.store.getSession('orphaned')).toMatchObject({
      status: 'stopped',
      head: 1,
      error: null,
    });
  });

  it('gives up what can not be saved when a caller says so, with what is lost in an event', async () => {
    const { app, manager, lifecycle, inside } = await open('lossy');
    await manager.destroySandbox('lossy');
    await lifecycle.startSandbox('lossy');
    const second = world.running('s-lossy-2').inside;
    second.files.set('work.txt', 'newer work');
    second.failures.push({ path: '/workspace/upload', times: 999, status: 503, error: AWAY });
    await expect(manager.destroySandbox('lossy')).rejects.toMatchObject({ code: 'save_failed' });
    await expect(manager.createSandbox({ sessionId: 'lossy' })).rejects.toMatchObject({
      code: 'save_failed',
    });
    const stopped = await manager.destroySandbox('lossy', { discardUnsaved: true });
    expect(stopped).toMatchObject({ status: 'failed', head: 1, error: { code: 'save_failed' } });
    expect(stopped.error!.detail).toContain('storage is away');
    const events = await world.store.listSessionEvents('lossy', { limit: 50 });
    expect(events.find(({ kind }) => kind === 'sandbox.discarded')).toMatchObject({
      data: { lost: { files: 1, bytes: 10, since_version: 1 } },
    });
    expect(await world.live(app)).toEqual([]);
    await lifecycle.startSandbox('lossy');
    expect(world.running('s-lossy-3').inside.files.get('work.txt')).toBe('work of lossy');
    expect(inside.sealed).toBe(true);
  });

  it('gives it up when the time for that is over', async () => {
    const { manager, app, inside, controller } = await open('overdue');
    inside.failures.push({ path: '/workspace/upload', times: 999, status: 503, error: AWAY });
    await expect(manager.destroySandbox('overdue')).rejects.toMatchObject({ code: 'save_failed' });
    await world.close(controller);
    await world.agePast(`s-overdue-1`, 60_000);
    await world.controller(app, {
      env: { MOBVIBE_CLEANUP_INTERVAL_MS: '200', MOBVIBE_UNSAVED_KEEP_MS: '60000' },
    });
    await world.until(async () => (await world.store.getSession('overdue')).status === 'failed');
    expect(await world.store.getSession('overdue')).toMatchObject({ error: { code: 'save_failed' } });
    expect(await world.live(app)).toEqual([]);
  });

  it('does not wait for the files of a machine that has died', async () => {
    const { app, manager, machine } = await open('dead');
    machine.exit({ exit_code: 137 });
    const stopped = await manager.destroySandbox('dead');
    expect(stopped).toMatchObject({ status: 'failed', head: 0, error: { code: 'machine_lost' } });
    expect(await world.live(app)).toEqual([]);
  });

  it('refuses what was uploaded short', async () => {
    const { manager, inside } = await open('short');
    inside.shortens = true;
    await expect(manager.destroySandbox('short')).rejects.toMatchObject({
      code: 'save_failed',
      detail: expect.stringMatching(/bytes in storage, expected/),
    });
    expect(await world.store.getSession('short')).toMatchObject({ status: 'stopping', head: 0 });
  });

  it('can be asked for twice, and of a session that is stopped', async () => {
    const { manager, lifecycle } = await open('twice');
    const both = await Promise.all([
      manager.destroySandbox('twice'),
      lifecycle.stopSandbox('twice', 'again'),
    ]);
    expect(both).toMatchObject([{ status: 'stopped' }, { status: 'stopped' }]);
    expect(await manager.destroySandbox('twice')).toMatchObject({ status: 'stopped', head: 1 });
  });

  it('refuses new execs while it saves', async () => {
    const { manager, inside } = await open('late');
    let letGo: () => void = () => undefined;
    inside.gates.set('/workspace/pack', new Promise((resolve) => (letGo = resolve)));
    await manager.execCommand('late', 'echo cached');
    await manager.destroySandbox('late', { waitMs: 0 });
    await expect(manager.execCommand('late', 'echo no')).rejects.toMatchObject({ code: 'session_stopping' });
    letGo();
    await world.until(async () => (await world.store.getSession('late')).status === 'stopped');
  });

  it('does not wait for a machine that Fly will not end: the session opens again, the old one is asked for on and on', async () => {
    const { app, manager, lifecycle } = await open('undying');
    const fault = { kind: 'answer', action: 'machine.destroy', status: 503, error: 'away' } as const;
    world.fly.faults.add({ ...fault, times: 40 });
    expect(await manager.destroySandbox('undying')).toMatchObject({ status: 'stopped', head: 1 });
    expect(await lifecycle.startSandbox('undying')).toMatchObject({ status: 'ready', incarnation: 2 });
    expect(world.running('s-undying-2').inside.files.get('work.txt')).toBe('work of undying');
    const states = (await world.sandboxes('undying')).map(({ state }) => state);
    expect(states).toEqual(['destroying', 'ready']);
    world.fly.faults.clear();
    await world.until(async () => (await world.live(app)).length === 1);
    await world.until(async () => (await world.sandboxes('undying'))[0]!.state === 'gone');
    expect(await world.store.getSession('undying')).toMatchObject({ status: 'ready', incarnation: 2 });
  });

  it('retries a destroy that Fly does not take, for as long as it takes', async () => {
    const { app, manager } = await open('hard');
    world.fly.faults.add({ kind: 'answer', action: 'machine.destroy', status: 503, error: 'away', times: 2 });
    expect(await manager.destroySandbox('hard')).toMatchObject({ status: 'stopped' });
    expect(await world.live(app)).toEqual([]);
  });
});

describe('a periodic save', () => {
  it('keeps what a machine had when it died', async () => {
    const { lifecycle, machine } = await open('periodic', { MOBVIBE_SAVE_INTERVAL_MS: '1000' });
    await world.until(async () => (await world.store.getSession('periodic')).head === 1);
    machine.exit({ exit_code: 137 });
    await world.until(async () => (await world.store.getSession('periodic')).status === 'failed');
    await lifecycle.startSandbox('periodic');
    expect(world.running('s-periodic-2').inside.files.get('work.txt')).toBe('work of periodic');
  });
});
