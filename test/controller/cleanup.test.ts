import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Store } from '../../controller/store/index.ts';
import { TIMES, World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.closeAll());
afterAll(() => world.end());

const OFTEN = { MOBVIBE_CLEANUP_INTERVAL_MS: '100' };

describe('the clean-up', () => {
  it('saves and stops a sandbox that is older than the most', async () => {
    const app = await world.app();
    let ahead = 0;
    const { manager } = await world.controller(app, { env: OFTEN, databaseTime: () => Date.now() + ahead });
    await manager.createSandbox({ sessionId: 'aged' });
    world.running('s-aged-1').inside.files.set('a', 'kept');
    ahead = 29 * 60_000;
    await manager.execCommand('aged', 'echo still there');
    ahead = 31 * 60_000;
    await world.until(async () => (await world.store.getSession('aged')).status === 'stopped');
    expect(await world.store.getSession('aged')).toMatchObject({ head: 1, error: null });
    expect(await world.sandboxes('aged')).toMatchObject([{ state: 'gone', reason: 'max_age' }]);
    expect(await world.live(app)).toEqual([]);
  });

  it('destroys machines of ours that no row wants, and no others', async () => {
    const app = await world.app();
    const ours = { mobvibe_stack: app, mobvibe_session: 'x' };
    const image = 'any:1';
    const make = (name: string, metadata: Record<string, string>) =>
      fetch(`${world.fly.url}/v1/apps/${app}/machines`, {
        method: 'POST',
        headers: { authorization: 'Bearer local-token', 'content-type': 'application/json' },
        body: JSON.stringify({ name, config: { image, metadata, restart: { policy: 'no' } } }),
      }).then((made) => made.json() as Promise<{ id: string }>);
    await make('s-orphan-1', { ...ours, mobvibe_sandbox: 's-orphan-1' });
    const spared = [
      await make('s-other-1', { ...ours, mobvibe_stack: 'preview', mobvibe_sandbox: 's-other-1' }),
      await make('builder', { ...ours, mobvibe_sandbox: 'builder' }),
      await make('s-misnamed-1', { ...ours, mobvibe_sandbox: 's-elsewhere-1' }),
      await make('s-bare-1', {}),
    ];
    await world.controller(app, { env: OFTEN });
    await world.until(async () => (await world.live(app)).length === spared.length);
    const left = (await world.live(app)).map(({ id }) => id).sort();
    expect(left).toEqual(spared.map(({ id }) => id).sort());
  });

  it('says that a machine was lost for want of memory', async () => {
    const app = await world.app();
    const { manager } = await world.controller(app, { env: OFTEN });
    await manager.createSandbox({ sessionId: 'hungry' });
    world.running('s-hungry-1').machine.exit({ exit_code: 137, oom_killed: true });
    await world.until(async () => (await world.store.getSession('hungry')).status === 'failed');
    expect(await world.store.getSession('hungry')).toMatchObject({ error: { code: 'out_of_memory' } });
  });

  it('believes no empty list: a sandbox whose machine runs stays', async () => {
    const app = await world.app();
    const { manager } = await world.controller(app, { env: OFTEN });
    await manager.createSandbox({ sessionId: 'listed' });
    // The agent is away as well, so that only Fly can speak for the machine.
    world.running('s-listed-1').agent.stop();
    world.fly.faults.add({ kind: 'empty_list', times: 4 });
    await world.until(() => world.fly.faults.pending().length === 0);
    expect(await world.store.getSession('listed')).toMatchObject({ status: 'ready' });
    expect(await world.live(app)).toHaveLength(1);
  });

  it('finds a machine that died while no controller was there', async () => {
    const app = await world.app();
    const first = await world.controller(app);
    await first.manager.createSandbox({ sessionId: 'unseen' });
    await world.close(first);
    world.running('s-unseen-1').machine.exit();
    await world.controller(app, { env: OFTEN });
    await world.until(async () => (await world.store.getSession('unseen')).status === 'failed');
    expect(await world.store.getSession('unseen')).toMatchObject({ error: { code: 'machine_lost' } });
  });

  it('ends when it is told to, and begins again', async () => {
    const app = await world.app();
    let ahead = 0;
    const databaseTime = () => Date.now() + ahead;
    const { manager, lifecycle, store } = await world.controller(app, { env: OFTEN, databaseTime });
    await manager.createSandbox({ sessionId: 'quiet' });
    await lifecycle.stopCleanup();
    ahead = 31 * 60_000;
    const looks = countLooks(store);
    // Another one's looks tell that there was time for some.
    const other = countLooks((await world.controller(await world.app(), { env: OFTEN })).store);
    await world.until(() => other() >= 5);
    expect(looks()).toBe(0);
    expect(await world.store.getSession('quiet')).toMatchObject({ status: 'ready' });
    lifecycle.startCleanup();
    await world.until(async () => (await world.store.getSession('quiet')).status === 'stopped');
  });
});

/** How often the clean-up has read the rows from now on. */
function countLooks(store: Store): () => number {
  let looks = 0;
  const { listLiveSandboxes } = store;
  store.listLiveSandboxes = (app) => {
    looks += 1;
    return listLiveSandboxes(app);
  };
  return () => looks;
}

describe('shutdown', () => {
  it('leaves sandboxes running, and the next controller has them', async () => {
    const app = await world.app();
    const first = await world.controller(app);
    await first.manager.createSandbox({ sessionId: 'stays' });
    await world.close(first);
    expect(await world.live(app)).toMatchObject([{ state: 'started' }]);
    await expect(first.manager.createSandbox({ sessionId: 'late' })).rejects.toMatchObject({
      code: 'shutting_down',
    });

    const next = await world.controller(app);
    expect(await next.manager.execCommand('stays', 'echo here')).toMatchObject({ stdout: 'here\n' });
    expect(world.boots.filter((name) => name === 's-stays-1')).toHaveLength(1);
  });

  it('takes no new session while steps under way may still end', async () => {
    const app = await world.app();
    world.mute.add('s-slow-1');
    const controller = await world.controller(app, {
      env: { MOBVIBE_SHUTDOWN_TIMEOUT_MS: '10000' },
    });
    await controller.manager.createSandbox({ sessionId: 'slow' }, { waitMs: 0 });
    await world.until(() => world.boots.includes('s-slow-1'));
    const closed = world.close(controller);
    const refused = expect.objectContaining({ code: 'shutting_down' });
    await world.until(async () => {
      const opened = await controller.manager
        .createSandbox({ sessionId: 'new' }, { waitMs: 0 })
        .catch((error) => error);
      return refused.asymmetricMatch(opened);
    });
    world.running('s-slow-1').agent.start();
    await closed;
    expect(await world.store.getSession('slow')).toMatchObject({ status: 'ready' });
  });

  it('does not wait for an agent that never answers', async () => {
    const app = await world.app();
    const controller = await world.controller(app, { times: { ...TIMES, cutOffMs: 50 } });
    await controller.manager.createSandbox({ sessionId: 'hung' });
    const { inside } = world.running('s-hung-1');
    inside.gates.set('/workspace/pack', new Promise(() => {}));
    await controller.manager.destroySandbox('hung', { waitMs: 0 });
    await world.until(() => inside.requests.includes('POST /workspace/pack'));
    await world.close(controller);
    expect(await world.store.getSession('hung')).toMatchObject({ status: 'stopping' });

    inside.gates.clear();
    await world.controller(app);
    await world.until(async () => (await world.store.getSession('hung')).status === 'stopped');
    expect(await world.live(app)).toEqual([]);
  });
});
