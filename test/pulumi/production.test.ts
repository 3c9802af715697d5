import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createFlyClient, type FlyClient } from '../../fly/index.ts';
import { CONTROLLER_IMAGE, missing, startWorld, type World } from './engine.ts';

const reason = missing('command');
const MINUTES = 60_000;

/** What `.github/workflows/production.yml` and `nightly.yml` ask of the real Pulumi. */
describe.skipIf(reason !== undefined)(
  `production${reason === undefined ? '' : `: ${reason}`}`,
  { timeout: 4 * MINUTES },
  () => {
    let world: World;
    let fly: FlyClient;
    let project: string;
    let settings: string;

    beforeAll(async () => {
      world = await startWorld();
      fly = createFlyClient({ token: world.token, baseUrl: world.fly.url });
      project = join(world.folder, 'project');
      settings = join(project, 'Pulumi.prod.yaml');
      await copyFile('Pulumi.prod.yaml', settings);
      await world.stack('prod');
    }, MINUTES);
    afterAll(async () => {
      fly?.close();
      await world?.close();
    });

    const pulumi = async (code: number, ...args: string[]) => {
      const run = await world.pulumi([...args, '--stack', 'prod']);
      expect(run.code === 0 ? 0 : 1, run.output).toBe(code);
      return run.output;
    };
    const POLICIES = ['--policy-pack', fileURLToPath(new URL('../../infra/policy', import.meta.url))];
    const UP = ['up', '--refresh', '--yes', '--skip-preview', ...POLICIES];
    const plan = () => join(project, 'plan.json');

    test('a stack is made from the settings that are kept with the code; their comments stay', async () => {
      const text = await readFile(settings, 'utf8');
      expect(text).toMatch(/^# Production\./);
      expect(text).toMatch(/^encryptionsalt: v1:/m);
      expect(text).toContain('# Neither a destroy nor a replacement takes an app away.');
      expect(text).toMatch(/mobvibe:supabaseDbUrl:\n\s+secure: v1:/);
    });

    test('what the plan says is done, and nothing beside it', async () => {
      await pulumi(0, 'preview', '--refresh', ...POLICIES, '--save-plan', plan());
      const saved = await readFile(plan(), 'utf8');
      for (const secret of [world.token, world.supabase.secretKey, world.supabase.connection.password]) {
        expect(saved.includes(secret)).toBe(false);
      }
      expect(await pulumi(0, ...UP, '--plan', plan())).toMatch(/\d+ created/);

      // Another image comes in between the plan and the up.
      await pulumi(0, 'preview', '--refresh', ...POLICIES, '--save-plan', plan());
      const text = await readFile(settings, 'utf8');
      const other = CONTROLLER_IMAGE.replaceAll('b', 'd');
      await writeFile(settings, text.replace(CONTROLLER_IMAGE, other));
      const writes = world.recorder.writes.length;
      expect(await pulumi(1, ...UP, '--plan', plan())).toContain('violates plan');
      expect(world.recorder.writes.slice(writes)).toEqual([]);
      await writeFile(settings, text);
    });

    test('the nightly look finds no drift, then the machine that was destroyed by hand, and changes nothing', async () => {
      const look = ['preview', '--refresh', '--expect-no-changes'];
      await pulumi(0, ...look);
      const app = 'mobvibe-prod-ctl';
      const [machine] = await fly.listMachines(app);
      await fly.destroyMachine(app, machine!.id, { force: true });
      const writes = world.recorder.writes.length;
      expect(await pulumi(1, ...look)).toContain('controller-1');
      expect(world.recorder.writes.slice(writes)).toEqual([]);
    });

    test('production’s apps are protected', async () => {
      expect(await pulumi(1, 'destroy', '--yes', '--skip-preview')).toContain('protected');
      expect((await fly.listApps('personal')).map(({ name }) => name)).toContain('mobvibe-prod-cell-1');
    });
  },
);
