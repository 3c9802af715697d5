import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createFlyClient, type FlyClient } from '../../fly/index.ts';
import { missing, SANDBOX_IMAGE, startWorld, type World } from './engine.ts';

const reason = missing('command');
const MINUTES = 60_000;

/** Fly can't change an app's network: the cell is deleted and made anew, with all that was in it. */
describe.skipIf(reason !== undefined)(`pulumi${reason === undefined ? '' : `: ${reason}`}`, () => {
  let world: World;
  let fly: FlyClient;
  beforeAll(async () => {
    world = await startWorld({ program: 'test/pulumi/cell' });
    fly = createFlyClient({ token: world.token, baseUrl: world.fly.url });
  }, MINUTES);
  afterAll(async () => {
    fly?.close();
    await world?.close();
  });

  test(
    'another network is another app: its sandboxes are gone first, and its policy and token are made again',
    async () => {
      const stack = await world.stack('moved', { network: 'first' });
      const succeed = async () => {
        const { code, output } = await stack.up();
        expect(code, output).toBe(0);
      };
      const token = async () => (await fly.listSecrets('controller')).map(({ digest }) => digest);
      await succeed();
      const before = { app: await fly.getApp('cell'), token: await token() };
      for (const name of ['s-1', 's-2'])
        await fly.createMachine('cell', { name, config: { image: SANDBOX_IMAGE } });

      await stack.set('network', 'second');
      await succeed();
      const after = await fly.getApp('cell');
      expect(after).toMatchObject({ name: 'cell', network: 'second' });
      expect(after.id).not.toBe(before.app.id);
      expect(await fly.listMachines('cell')).toEqual([]);
      expect(await fly.listNetworkPolicies('cell')).toHaveLength(1);
      expect(await token()).not.toEqual(before.token);

      const { code, output } = await stack.up('--expect-no-changes');
      expect(code, output).toBe(0);
    },
    5 * MINUTES,
  );
});
