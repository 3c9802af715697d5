import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { FLY_TOKEN, SECRET, World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.closeAll());
afterAll(() => world.end());

describe('a session from open to stopped', () => {
  it('gets a machine that carries our marks and nothing that would restart or serve', async () => {
    const app = await world.app();
    const { manager } = await world.controller(app, { env: { FLY_REGION: 'sjc,lax,any' } });
    const session = await manager.createSandbox({ sessionId: 'marks' });
    expect(session).toMatchObject({ status: 'ready', incarnation: 1, created: true });

    const [machine, ...others] = await world.live(app);
    expect(others).toEqual([]);
    expect(session.sandbox_id).toBe(machine!.id);
    expect(machine).toMatchObject({
      name: 's-marks-1',
      config: {
        image: 'sandbox:1',
        guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 512 },
        auto_destroy: true,
        restart: { policy: 'no' },
        stop_config: { signal: 'SIGTERM' },
        metadata: { mobvibe_stack: app, mobvibe_session: 'marks', mobvibe_sandbox: 's-marks-1' },
        env: { MOBVIBE_SANDBOX: 's-marks-1', MOBVIBE_AGENT_TOKEN: world.token('s-marks-1') },
      },
    });
    expect(machine!.config!.services).toBeUndefined();
  });

  it('carries no secret into the machine but the token of this one sandbox', async () => {
    const app = await world.app();
    const { manager } = await world.controller(app);
    await manager.createSandbox({ sessionId: 'secrets' });
    const [machine] = await world.live(app);
    const { env } = machine!.config!;
    expect(Object.keys(env!).sort()).toEqual([
      'MOBVIBE_AGENT_DIAL_URL',
      'MOBVIBE_AGENT_ORPHAN_TIMEOUT_MS',
      'MOBVIBE_AGENT_TOKEN',
      'MOBVIBE_FENCE',
      'MOBVIBE_SANDBOX',
    ]);
    for (const secret of [SECRET, FLY_TOKEN, world.supabase.secretKey]) {
      expect(JSON.stringify(machine)).not.toContain(secret);
    }
  });

  it('keeps its files over a stop and a new machine', async () => {
    const app = await world.app();
    const { manager, lifecycle } = await world.controller(app);
    await manager.createSandbox({ sessionId: 'keeps' });
    world.running('s-keeps-1').inside.files.set('app/(tabs)/[id].tsx', 'export default 1;');

    const stopped = await manager.destroySandbox('keeps');
    expect(stopped).toMatchObject({ status: 'stopped', head: 1, sandbox_id: null, error: null });
    expect(await world.live(app)).toEqual([]);

    const opened = await lifecycle.startSandbox('keeps');
    expect(opened).toMatchObject({ status: 'ready', incarnation: 2 });
    const { inside } = world.running('s-keeps-2');
    expect(inside.restored).toBe(1);
    expect([...inside.files]).toEqual([['app/(tabs)/[id].tsx', 'export default 1;']]);
  });

  it('runs commands and tells their true results', async () => {
    const app = await world.app();
    const { manager, lifecycle } = await world.controller(app);
    await manager.createSandbox({ sessionId: 'runs' });
    expect(await manager.execCommand('runs', 'echo hello')).toMatchObject({
      stdout: 'hello\n',
      exit_code: 0,
      result: { kind: 'exited', code: 0 },
      truncated: false,
    });
    expect(await lifecycle.execInSandbox('runs', 'echo again')).toMatchObject({
      stdout: 'again\n',
    });
    expect(await manager.execCommand('runs', 'exit 3')).toMatchObject({ exit_code: 3 });
    expect(await manager.execCommand('runs', 'cat', { stdin: 'hé' })).toMatchObject({ stdout: 'hé' });
  });
});
