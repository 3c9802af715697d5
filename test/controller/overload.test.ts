import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { CodedError } from '../../controller/errors.ts';
import type { SessionSettings } from '../../controller/store/rows.ts';
import { World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.closeAll());
afterAll(() => world.end());

const SETTINGS: SessionSettings = { region: 'sjc', cpu_kind: 'shared', cpus: 1, memory_mb: 512 };

/** Sessions that have been open once, as far as the rows tell. */
async function closedSessions(app: string, ids: readonly string[]): Promise<void> {
  for (const id of ids) {
    const { sandbox } = await world.store.openSession({ id, settings: SETTINGS, app, actor: 'test' });
    const row = await world.store.sandboxDestroying(sandbox, 'requested', 'test');
    await world.store.sandboxGone(row, 'requested', null, 'test');
  }
}

/** From now on every machine ends before its agent has called. */
function crashAll(): void {
  world.onBoot = (name) => {
    world.mute.add(name);
    setImmediate(() => world.running(name).machine.exit({ exit_code: 1 }));
  };
}

describe('200 opens at once on one cell', () => {
  it('are ready in time or refused at once, without a row, and until when they are told', async () => {
    const app = await world.app();
    const { manager, store } = await world.controller(app, { env: { MOBVIBE_START_TIMEOUT_MS: '16000' } });
    const order: ('ready' | 'refused')[] = [];
    const refused = new Map<string, number>();
    const admitted: string[] = [];
    const ids = Array.from({ length: 200 }, (_, n) => `burst-${n}`);
    const all = ids.map(async (sessionId) => {
      try {
        expect(await manager.createSandbox({ sessionId })).toMatchObject({ status: 'ready' });
        admitted.push(sessionId);
        order.push('ready');
      } catch (error) {
        const { code, retryAfterMs } = error as CodedError;
        expect({ code, retryAfterMs }).toEqual({ code: 'no_capacity', retryAfterMs: expect.any(Number) });
        refused.set(sessionId, performance.now() + retryAfterMs!);
        order.push('refused');
      }
    });
    await world.until(() => refused.size > 0 && world.boots.includes('s-burst-0-1'));
    // Whoever asks for one that is on its way waits with it.
    expect(await manager.createSandbox({ sessionId: 'burst-0' })).toMatchObject({ created: false });
    const last = await manager.createSandbox({ sessionId: 'burst-4' }, { waitMs: 0 });
    expect(last).toMatchObject({ created: false, incarnation: 1 });
    await Promise.all(all);

    expect(order.lastIndexOf('refused')).toBeLessThan(order.lastIndexOf('ready'));
    expect(admitted.length).toBeGreaterThanOrEqual(5);
    expect(await world.live(app)).toHaveLength(admitted.length);
    await Promise.all(
      [...refused.keys()].map((id) =>
        expect(store.getSession(id)).rejects.toMatchObject({ code: 'session_not_found' }),
      ),
    );
    const early = [...refused].sort(([, a], [, b]) => a - b).slice(0, 3);
    for (const [sessionId, at] of early) {
      await world.until(() => performance.now() >= at);
      expect(await manager.createSandbox({ sessionId })).toMatchObject({ status: 'ready', incarnation: 1 });
    }
  }, 120_000);
});

describe('an image whose machines end before their agent has called', () => {
  it('is started by ten jobs a few times, and then not any more', async () => {
    const app = await world.app();
    const ids = Array.from({ length: 10 }, (_, n) => `crash-${n}`);
    await closedSessions(app, ids);
    crashAll();
    const before = world.boots.length;
    for (const id of ids) {
      const spec = { command: 'echo never' };
      await world.store.enqueueJob({ id: `job-${id}`, sessionId: id, spec, maxAttempts: 3, actor: 'test' });
    }
    const { lifecycle } = await world.controller(app);
    const ended = async () =>
      (await Promise.all(ids.map((id) => world.store.getJob(`job-${id}`)))).every(({ ended_at }) => ended_at);
    await expect.poll(ended, { timeout: 90_000, interval: 200 }).toBe(true);
    expect(world.boots.length - before).toBeGreaterThanOrEqual(3);
    expect(world.boots.length - before).toBeLessThanOrEqual(12);
    await expect(lifecycle.startSandbox(ids[0]!)).rejects.toMatchObject({
      code: 'image_failing',
      detail: expect.stringMatching(/before its agent had called/),
      retryAfterMs: expect.any(Number),
    });
    await world.until(async () => (await world.live(app)).length === 0);
  }, 120_000);

  it('is tried once after a while, and taken by everyone when that has succeeded', async () => {
    const app = await world.app();
    const ids = ['again-0', 'again-1', 'again-2', 'again-3', 'again-4'];
    await closedSessions(app, ids);
    crashAll();
    let now = 0;
    const { lifecycle } = await world.controller(app, { monotonic: () => performance.now() + now });
    await Promise.all(
      ids.slice(0, 3).map((id) => expect(lifecycle.startSandbox(id)).rejects.toThrow('session_start_failed')),
    );
    await expect(lifecycle.startSandbox('again-3')).rejects.toMatchObject({ code: 'image_failing' });
    expect(await world.store.getSession('again-3')).toMatchObject({ status: 'stopped', incarnation: 1 });
    world.onBoot = undefined;
    now = 31_000;
    const tried = lifecycle.startSandbox('again-3');
    await expect(lifecycle.startSandbox('again-4')).rejects.toMatchObject({ code: 'image_failing' });
    expect(await tried).toMatchObject({ status: 'ready' });
    expect(await lifecycle.startSandbox('again-4')).toMatchObject({ status: 'ready' });
  }, 60_000);
});
