import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createFlyClient, type FlyClient } from '../../fly/index.ts';
import { CONTROLLER_IMAGE, missing, SANDBOX_IMAGE, type Stack, startWorld, type World } from './engine.ts';

const reason = missing('command');
const OTHER_IMAGE = `registry.fly.io/test@sha256:${'c'.repeat(64)}`;
const MINUTES = 60_000;

/** The real Pulumi engine with the real command provider, against local Fly (its machines simulated) and a real Postgres. */
describe.skipIf(reason !== undefined)(
  `pulumi${reason === undefined ? '' : `: ${reason}`}`,
  { timeout: 6 * MINUTES },
  () => {
    let world: World;
    let fly: FlyClient;
    let stack: Stack;

    beforeAll(async () => {
      world = await startWorld();
      fly = createFlyClient({ token: world.token, baseUrl: world.fly.url });
      stack = await world.stack('prod');
    }, 2 * MINUTES);

    afterAll(async () => {
      fly?.close();
      await world?.close();
    });

    const apps = async () => (await fly.listApps('personal')).map(({ name }) => name).sort();
    const controllers = () => fly.listMachines('mobvibe-prod-ctl');
    const writes = async (work: () => Promise<unknown>) => {
      const before = world.recorder.writes.length;
      await work();
      return world.recorder.writes.slice(before);
    };
    const succeed = async (run: Promise<{ code: number; output: string }>) => {
      const { code, output } = await run;
      expect(code, output).toBe(0);
    };

    test('an up that Fly lets down in the middle is finished by the next, and nothing is doubled', async () => {
      // One 500 is got over within the up; a refusal is not.
      world.recorder.failNext(/^POST .*-egress\/secrets$/, 500);
      world.recorder.failNext(/^POST .*-egress\/machines$/, 422);
      const first = await stack.up();
      expect(first.code).not.toBe(0);
      world.recorder.loseAnswerOf(/^POST .*-ctl\/machines$/);
      await succeed(stack.up());
      expect(await apps()).toEqual(['mobvibe-prod-cell-1', 'mobvibe-prod-ctl', 'mobvibe-prod-egress']);
      expect(await controllers()).toMatchObject([{ name: 'controller-1', state: 'started' }]);
      expect(await fly.listMachines('mobvibe-prod-egress')).toHaveLength(1);
    });

    test('a controller is what the stack says, and a cell lets nothing in', async () => {
      const [controller] = await controllers();
      expect(controller?.config).toMatchObject({
        image: CONTROLLER_IMAGE,
        env: { MOBVIBE_SANDBOX_IMAGE: SANDBOX_IMAGE, MOBVIBE_CELL_APPS: 'mobvibe-prod-cell-1' },
        restart: { policy: 'always' },
        stop_config: { signal: 'SIGTERM', timeout: '60s' },
      });
      expect(await fly.getApp('mobvibe-prod-cell-1')).toMatchObject({ network: 'mobvibe-prod-cell-1' });
      expect(await fly.listIps('mobvibe-prod-cell-1')).toEqual([]);
      const [policy] = await fly.listNetworkPolicies('mobvibe-prod-cell-1');
      expect(policy?.rules).toContainEqual({
        action: 'allow',
        direction: 'ingress',
        ports: [{ protocol: 'tcp', port: 9 }],
      });
    });

    test('the migrations are applied, by the Supabase CLI', async () => {
      const { Client } = await import('pg');
      const client = new Client(world.supabase.connection);
      await client.connect();
      const { rows } = await client.query('select count(*)::int from public.coding_sessions');
      await client.end();
      expect(rows).toEqual([{ count: 0 }]);
    });

    test('a second up changes nothing and writes nothing', async () => {
      expect(await writes(() => succeed(stack.up('--expect-no-changes')))).toEqual([]);
    });

    test('a new sandbox image is one update of the one machine that hands it out', async () => {
      const [before] = await controllers();
      await stack.set('sandboxImageRef', OTHER_IMAGE);
      const written = await writes(() => succeed(stack.up()));
      const [after] = await controllers();
      expect(after).toMatchObject({
        id: before!.id,
        config: { env: { MOBVIBE_SANDBOX_IMAGE: OTHER_IMAGE } },
      });
      const changed = written.filter((line) => !line.includes('/lease'));
      expect(changed).toEqual([`POST /v1/apps/mobvibe-prod-ctl/machines/${before!.id}`]);
    });

    test('a machine that was destroyed by hand is found missing and made again', async () => {
      const [before] = await controllers();
      await fly.destroyMachine('mobvibe-prod-ctl', before!.id, { force: true });
      await succeed(stack.up('--refresh'));
      const running = (await controllers()).filter(({ state }) => state === 'started');
      expect(running).toHaveLength(1);
      expect(running[0]!.id).not.toBe(before!.id);
    });

    test('another rotation makes another token, and the controller gets it', async () => {
      const digestOf = async () =>
        (await fly.listSecrets('mobvibe-prod-ctl')).find(({ name }) => name === 'FLY_API_TOKEN')?.digest;
      const before = await digestOf();
      await stack.set('tokenRotation', '2');
      await succeed(stack.up());
      expect(await digestOf()).not.toBe(before);
    });

    test('another stack shares no app with it', async () => {
      const preview = await world.stack('pr-7');
      await succeed(preview.up());
      expect(await apps()).toHaveLength(6);
      await succeed(preview.run('destroy', '--yes', '--skip-preview'));
      expect(await apps()).toEqual(['mobvibe-prod-cell-1', 'mobvibe-prod-ctl', 'mobvibe-prod-egress']);
    });

    test('no token and no key is in a state or was shown', async () => {
      const text = [await stack.state(), ...world.said].join('\n');
      expect(text).toContain('mobvibe-prod-ctl');
      for (const secret of [world.token, world.supabase.secretKey, world.supabase.connection.password]) {
        expect(text.includes(secret)).toBe(false);
      }
      expect(text).not.toMatch(/mvk_[A-Za-z0-9_-]{10}/);
    });

    test('a destroy that is cut off is repeated; with a controller that goes on creating, no machine and no app is left', async () => {
      const cell = 'mobvibe-prod-cell-1';
      let made = 0;
      const busy = (async () => {
        // As a controller would: for as long as its machine runs.
        while ((await controllers().catch(() => [])).some(({ state }) => state === 'started')) {
          await fly
            .createMachine(cell, { name: `s-live-${++made}`, config: { image: SANDBOX_IMAGE } })
            .catch(() => {});
        }
      })();
      await expect.poll(() => made, { timeout: MINUTES }).toBeGreaterThan(3);
      world.recorder.failNext(/^DELETE \/v1\/apps\/mobvibe-prod-cell-1$/, 403);
      const first = await stack.run('destroy', '--yes', '--skip-preview');
      await busy;
      expect(first.code, first.output).not.toBe(0);
      expect(await apps()).toContain(cell);
      await succeed(stack.run('destroy', '--yes', '--skip-preview'));
      expect(await apps()).toEqual([]);
      expect(await fly.listMachines(cell).catch(() => [])).toEqual([]);
    });
  },
);
