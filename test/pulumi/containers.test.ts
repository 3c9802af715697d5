import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MobVibe } from '../../client/index.ts';
import { createFlyClient, type FlyClient } from '../../fly/index.ts';
import { Missing, type Platforms, startPlatforms } from '../containers/platforms.ts';
import { missing, type Stack, startWorld, type World } from './engine.ts';

const MINUTES = 60_000;
const SANDBOXES = 5;
let reason = missing('command', 'docker');

/** The real Pulumi engine with the real command and docker providers; every machine is a container of the image that was built. */
describe('pulumi on containers', { timeout: 8 * MINUTES }, () => {
  let world: World;
  let platforms: Platforms;
  let fly: FlyClient;
  let stack: Stack;
  let mobvibe: MobVibe;

  beforeAll(async () => {
    if (reason !== undefined) return;
    try {
      world = await startWorld({
        open: async (options) => {
          platforms = await startPlatforms(options);
          return platforms;
        },
      });
    } catch (error) {
      if (!(error instanceof Missing)) throw error;
      reason = error.message;
      return;
    }
    fly = createFlyClient({ token: world.token, baseUrl: world.fly.url });
    stack = await world.stack('demo');
  }, 5 * MINUTES);
  afterAll(async () => {
    mobvibe?.[Symbol.dispose]();
    fly?.close();
    await world?.close();
  }, MINUTES);

  const step = (name: string, run: () => Promise<void>) =>
    test(name, async ({ skip }) => {
      skip(reason !== undefined, reason);
      await run();
    });
  const succeed = async (run: Promise<{ code: number; output: string }>) => {
    const { code, output } = await run;
    expect(code, output).toBe(0);
    return output;
  };
  const containers = () =>
    platforms.containersOf(
      ...['ctl', 'egress', 'cell-1', 'cell-2', 'img'].map((app) => `mobvibe-demo-${app}`),
    );

  step('one up builds the images, deploys them, and has a session run before it ends', async () => {
    await succeed(stack.up());
    const { controllerUrl, apiKey, sandboxImage } = (await stack.output()) as Record<string, string>;
    expect(sandboxImage).toMatch(/^127\.0\.0\.1:\d+\/mobvibe-demo-img@sha256:[0-9a-f]{64}$/);
    expect(await fly.listMachines('mobvibe-demo-img')).toEqual([
      expect.objectContaining({
        ...{ name: 'keeper', state: 'created' },
        config: expect.objectContaining({ image: sandboxImage }),
      }),
    ]);
    mobvibe = new MobVibe({ url: controllerUrl!, apiKey: apiKey! });
    const { items } = await mobvibe.sessions.list();
    expect(items).toEqual([
      expect.objectContaining({ id: expect.stringMatching(/^smoke-/), status: 'stopped' }),
    ]);
  });

  step('a second up changes nothing, builds nothing and writes nothing', async () => {
    const before = world.recorder.writes.length;
    await succeed(stack.up('--expect-no-changes'));
    expect(world.recorder.writes.slice(before)).toEqual([]);
  });

  step('files of a session come back in its next sandbox, by way of the egress proxy', async () => {
    const session = await mobvibe.sessions.create({ id: 'kept' });
    expect(await session.exec('echo kept > note')).toMatchObject({ exitCode: 0 });
    await session.stop();
    const again = await mobvibe.sessions.create({ id: 'kept' });
    expect(await again.exec('cat note')).toMatchObject({ exitCode: 0, stdout: 'kept\n' });
  });

  step(
    'another controller takes over from the old one while a command runs, and the command is not disturbed',
    async () => {
      const session = await mobvibe.sessions.get('kept');
      const [before] = await fly.listMachines('mobvibe-demo-ctl');
      // Runs until it is told to end: across the whole roll-out, however long that takes.
      const running = session.exec('echo began; while [ ! -e end ]; do sleep 0.1; done; echo ended');
      await stack.set('controllerMemoryMb', '768');
      await succeed(stack.up());
      const [after] = await fly.listMachines('mobvibe-demo-ctl');
      expect(after).toMatchObject({ id: before!.id, config: { guest: { memory_mb: 768 } } });
      expect(after!.instance_id).not.toBe(before!.instance_id);
      expect(await session.exec('touch end')).toMatchObject({ exitCode: 0 });
      expect(await running).toMatchObject({ exitCode: 0, stdout: 'began\nended\n' });
    },
  );

  step(
    'a second cell and a second controller are added, and both controllers replaced one by one',
    async () => {
      const session = await mobvibe.sessions.get('kept');
      const running = session.exec('echo began; while [ ! -e over ]; do sleep 0.1; done; echo ended');
      await stack.set('cells', '2');
      await stack.set('controllerMachines', '2');
      await succeed(stack.up());
      expect(await fly.listMachines('mobvibe-demo-ctl')).toHaveLength(2);

      const before = world.recorder.writes.length;
      await stack.set('controllerMemoryMb', '512');
      await succeed(stack.up());
      const updates = world.recorder.writes
        .slice(before)
        .filter((line) => /^POST .*-ctl\/machines\/[^/]+(\/lease)?$/.test(line));
      const machines = updates.map((line) => line.split('/')[5]);
      // Each machine's calls are over before the other's begin.
      expect(machines).toEqual([...machines].sort((a, b) => machines.indexOf(a) - machines.indexOf(b)));
      expect(new Set(machines).size).toBe(2);
      expect(await session.exec('touch over')).toMatchObject({ exitCode: 0 });
      expect(await running).toMatchObject({ exitCode: 0, stdout: 'began\nended\n' });
    },
  );

  step(
    'a destroy that is interrupted, and one that is killed, are repeated: no container and no app is left',
    async () => {
      const ids = Array.from({ length: SANDBOXES }, (_, number) => `live-${number}`);
      await Promise.all(ids.map((id) => mobvibe.sessions.create({ id })));
      expect((await containers()).length).toBeGreaterThanOrEqual(SANDBOXES + 2);

      const nextWrite = async (pattern: RegExp) => {
        const before = world.recorder.writes.length;
        const found = () => world.recorder.writes.slice(before).some((line) => pattern.test(line));
        await expect.poll(found, { timeout: MINUTES, interval: 20 }).toBe(true);
      };
      const interrupted = nextWrite(/\/stop$/).then(() => 'SIGINT' as const);
      expect((await stack.killed(interrupted, 'destroy', '--yes', '--skip-preview')).code).not.toBe(0);
      const killed = nextWrite(/^DELETE /).then(() => 'SIGKILL' as const);
      expect((await stack.killed(killed, 'destroy', '--yes', '--skip-preview')).code).not.toBe(0);
      expect(await fly.listApps('personal')).not.toEqual([]);

      await succeed(stack.run('cancel', '--yes'));
      await succeed(stack.run('destroy', '--yes', '--skip-preview'));
      expect(await fly.listApps('personal')).toEqual([]);
      expect(await containers()).toEqual([]);
    },
  );
});
