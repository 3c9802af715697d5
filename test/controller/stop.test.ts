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
  return { app, ...controller, ...running };
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

  it('saves what was written while it saved', async () => {
    const { manager, lifecycle, inside } = await open('meanwhile');
    let letGo: () => void = () => undefined;
    inside.gates.set('/workspace/upload', new Promise((resolve) => (letGo = resolve)));
    const stopped = manager.destroySandbox('meanwhile');
    await world.until(() => inside.requests.includes('POST /workspace/upload'));
    inside.files.set('late.txt', 'written after the walk');
    letGo();
    expect(await stopped).toMatchObject({ status: 'stopped', head: 2 });
    await lifecycle.startSandbox('meanwhile');
    expect(world.running('s-meanwhile-2').inside.files.get('late.txt')).toBe('written after the walk');
  });

  it('is gone by Fly’s own word before the row says so', async () => {
    const { app, manager, inside } = await open('word');
    expect(inside.restored).toBe(0);
    // The destroy is answered but not done, twice.
    world.fly.faults.add({ kind: 'answer', action: 'machine.destroy', status: 200, error: 'x', times: 1 });
    expect(await manager.destroySandbox('word')).toMatchObject({ status: 'stopped' });
    expect(await world.live(app)).toEqual([]);
  });

  it('saves at a later try what could not be saved at the first', async () => {
    const { manager, inside } = await open('retry');
    inside.failures.push({ path: '/workspace/upload', times: 2, status: 503, error: AWAY });
    expect(await manager.destroySandbox('retry')).toMatchObject({ status: 'stopped', head: 1, error: null });
  });

  it('saves under a controller that comes long after, as patiently as at first', async () => {
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
    const databaseTime = () => Date.now() + 3_600_000;
    await world.controller(app, { env: { MOBVIBE_CLEANUP_INTERVAL_MS: '200' }, databaseTime });
    await world.until(async () => (await world.store.getSession('orphaned')).sandbox_id === null);
    expect(await world.store.getSession('orphaned')).toMatchObject({
      status: 'stopped',
      head: 1,
      error: null,
    });
  });

  it('goes on without a save that keeps failing, and says so; the last saved version stands', async () => {
    const { app, manager, lifecycle, inside, ...controller } = await open('lossy');
    const [row] = await world.sandboxes('lossy');
    expect(row!.state).toBe('ready');
    inside.failures.push({ path: '/workspace/upload', times: 0, status: 503, error: AWAY });
    await manager.destroySandbox('lossy');
    await lifecycle.startSandbox('lossy');
    const second = world.running('s-lossy-2').inside;
    second.files.set('work.txt', 'newer work');
    second.failures.push({ path: '/workspace/upload', times: 999, status: 503, error: AWAY });
    const stopped = await manager.destroySandbox('lossy');
    expect(stopped).toMatchObject({ status: 'failed', head: 1, error: { code: 'save_failed' } });
    expect(stopped.error!.detail).toContain('storage is away');
    expect(await world.live(app)).toEqual([]);
    await lifecycle.startSandbox('lossy');
    expect(world.running('s-lossy-3').inside.files.get('work.txt')).toBe('work of lossy');
    expect(controller.hub.size).toBe(1);
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
    const stopped = await manager.destroySandbox('short');
    expect(stopped).toMatchObject({ head: 0, error: { code: 'save_failed' } });
    expect(stopped.error!.detail).toMatch(/bytes in storage, expected/);
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
    await expect(manager.createSandbox({ sessionId: 'late' })).rejects.toMatchObject({
      code: 'session_stopping',
    });
    letGo();
    await world.until(async () => (await world.store.getSession('late')).status === 'stopped');
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
