import { readdirSync, readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createFlyClient, type FlyClient } from '../../fly/index.ts';
import type { LocalSupabase } from '../../local/supabase/server.ts';
import { missing, startWorld, type World } from './engine.ts';
import { type Previews, previewsOf } from './previews.ts';

const reason = missing('command');
const MINUTES = 60_000;
const PAST = '2026-01-01T00:00:00Z';
const appsOf = (stack: string) => ['cell-1', 'ctl', 'egress'].map((part) => `mobvibe-${stack}-${part}`);
const PRODUCTION = appsOf('prod');
const ORPHANS = ['reap', '--orphans', '--json', '--looks-apart-seconds', '0.2'];

/** `npm run preview` with the real Pulumi engine, against local Fly (its machines simulated) and a real Postgres for each preview. */
describe.skipIf(reason !== undefined)(
  `previews${reason === undefined ? '' : `: ${reason}`}`,
  { timeout: 6 * MINUTES },
  () => {
    let world: World;
    let previews: Previews;
    let fly: FlyClient;
    let first: LocalSupabase;
    let second: LocalSupabase;

    beforeAll(async () => {
      world = await startWorld();
      previews = await previewsOf(world);
      fly = createFlyClient({ token: world.token, baseUrl: world.fly.url });
      // Production as far as previews could harm it: its settings, its stack, its apps.
      await world.stack('prod');
      for (const name of PRODUCTION) await fly.createApp({ name, org_slug: 'personal' });
      first = await previews.anotherSupabase();
      second = await previews.anotherSupabase();
    }, 3 * MINUTES);

    afterAll(async () => {
      fly?.close();
      await previews?.close();
      await world?.close();
    });

    const apps = async () => (await fly.listApps('personal')).map(({ name }) => name!).sort();
    const tag = async (stack: string, value: string) => {
      const { code, output } = await world.pulumi([
        'stack',
        'tag',
        'set',
        'mobvibe:expiresAt',
        value,
        '--stack',
        stack,
      ]);
      expect(code, output).toBe(0);
    };
    const answerOf = async (
      run: ReturnType<Previews['run']>,
      code = 0,
      // biome-ignore lint/suspicious/noExplicitAny: what the command answers is what is tested.
    ): Promise<any> => {
      const done = await run;
      expect(done.code, done.output).toBe(code);
      return JSON.parse(done.answer);
    };
    const refused = async (run: ReturnType<Previews['run']>): Promise<string> => {
      const { code, output } = await run;
      expect(code, output).toBe(1);
      return output;
    };
    const up = (of: string[], supabase: LocalSupabase, ...more: string[]) =>
      answerOf(previews.run(['up', ...of, '--json', ...more], { supabase }));

    test('production’s database is refused, by its settings or by a variable; nothing is made', async () => {
      expect(await refused(previews.run(['up', '--pr', '1']))).toContain("which is production's");
      const env = { MOBVIBE_PROD_SUPABASE_URL: first.url };
      const told = previews.run(['up', '--pr', '1'], { supabase: first, env });
      expect(await refused(told)).toContain("which is production's");
      expect((await world.pulumi(['stack', 'ls', '--json'])).output).not.toContain('"pr-1"');
      expect(await apps()).toEqual(PRODUCTION);
    });

    test('two previews stand side by side and share nothing; the project’s folder stays as it was', async () => {
      const before = readdirSync(previews.project).sort();
      expect(await up(['--pr', '7'], first, '--ttl-hours', '2')).toMatchObject({
        stack: 'pr-7',
        url: 'https://mobvibe-pr-7-ctl.fly.dev',
      });
      const sharing = previews.run(['up', '--branch', 'feature/x'], { supabase: first });
      expect(await refused(sharing)).toContain('which the preview pr-7 uses');
      expect(await up(['--branch', 'feature/x'], second)).toMatchObject({ stack: 'br-feature-x' });
      expect(await apps()).toEqual([...appsOf('br-feature-x'), ...appsOf('pr-7'), ...PRODUCTION].sort());
      expect(world.said.at(-1)).toMatch(/Policies:\s+✅ mobvibe@/);
      const controllers = await Promise.all(
        ['pr-7', 'br-feature-x'].map(
          async (stack) => (await fly.listMachines(`mobvibe-${stack}-ctl`))[0]!.config!.env!,
        ),
      );
      expect(controllers.map((env) => env.SUPABASE_URL)).toEqual([first.url, second.url]);
      expect(controllers.map((env) => env.MOBVIBE_CELL_APPS)).toEqual([
        'mobvibe-pr-7-cell-1',
        'mobvibe-br-feature-x-cell-1',
      ]);
      // Of the template.
      expect(controllers[0]).toMatchObject({
        MOBVIBE_SANDBOX_MAX_AGE_MS: '600000',
        MOBVIBE_JOBS_AT_ONCE: '2',
      });
      expect(
        readdirSync(previews.project)
          .filter((name) => name !== '.mobvibe')
          .sort(),
      ).toEqual(before);
    });

    test('the other branch whose stack would have the same name is refused', async () => {
      const other = previews.run(['up', '--branch', 'feature-x'], { supabase: second });
      expect(await refused(other)).toContain('is the preview of branch feature/x, not of branch feature-x');
    });

    test('another up changes only the life', async () => {
      const writes = world.recorder.writes.length;
      const [before] = (await answerOf(previews.run(['list', '--json']))).filter(
        ({ stack }: { stack: string }) => stack === 'pr-7',
      );
      const { expiresAt } = await up(['--pr', '7'], first, '--ttl-hours', '5');
      expect(Date.parse(expiresAt)).toBeGreaterThan(Date.parse(before.tags.expiresAt));
      expect(world.recorder.writes.slice(writes)).toEqual([]);
    });

    test('list shows previews alone', async () => {
      const { output } = await previews.run(['list']);
      expect(output.trim().split('\n').sort()).toEqual([
        expect.stringMatching(
          /^br-feature-x {2}branch feature\/x {2}updated \d+ min ago {2}expires in 48 h {2}\d+ resources/,
        ),
        expect.stringMatching(
          /^pr-7 {2}pr 7 {2}.* {2}expires in 5 h .*https:\/\/mobvibe-pr-7-ctl\.fly\.dev$/,
        ),
      ]);
    });

    test('apps that no stack owns go after two looks; production’s, a stack’s and a stranger’s stay', async () => {
      const strangers = ['mobvibe-pr-9-web', 'mobvibe-staging-ctl', 'other-pr-9-ctl'];
      const lost = ['mobvibe-pr-9-cell-1', 'mobvibe-pr-9-ctl', 'mobvibe-br-gone-img'];
      for (const name of [...strangers, ...lost]) await fly.createApp({ name, org_slug: 'personal' });
      await fly.createMachine('mobvibe-pr-9-ctl', { name: 'c', config: { image: 'x@sha256:0' } });
      const all = await apps();

      const wrong = await answerOf(
        previews.run([...ORPHANS, '--min-age-hours', '0', '--witness', 'live']),
        1,
      );
      expect(wrong.problems[0].why).toContain('holds no stack "live"');
      expect(await apps()).toEqual(all);

      const reaped = await answerOf(previews.run([...ORPHANS, '--min-age-hours', '0']));
      expect(reaped.orphans).toEqual(['mobvibe-pr-9-ctl', 'mobvibe-pr-9-cell-1', 'mobvibe-br-gone-img']);
      expect(await apps()).toEqual(
        [...appsOf('pr-7'), ...appsOf('br-feature-x'), ...PRODUCTION, ...strangers].sort(),
      );
      for (const name of strangers) await fly.deleteApp(name);
    });

    test('expired ones are reaped, of which one that fails does not keep the next; one whose expiry can’t be read stays', async () => {
      await world.pulumi(['stack', 'init', 'pr-12']);
      for (const stack of ['prod', 'pr-7', 'br-feature-x']) await tag(stack, PAST);
      const dry = await answerOf(previews.run(['reap', '--dry-run', '--json']), 1);
      expect(dry).toMatchObject({ expired: ['br-feature-x', 'pr-7'], problems: [{ what: 'pr-12' }] });
      expect(await apps()).toHaveLength(9);

      world.recorder.failNext(/^DELETE \/v1\/apps\/mobvibe-br-feature-x-egress$/, 403);
      const reaped = await answerOf(previews.run(['reap', '--json']), 1);
      expect(reaped.expired).toEqual(['pr-7']);
      expect(reaped.problems.map(({ what }: { what: string }) => what)).toEqual(['br-feature-x', 'pr-12']);
      expect(await apps()).toContain('mobvibe-br-feature-x-egress');

      expect(await answerOf(previews.run(['destroy', '--stack', 'pr-12', '--json']))).toMatchObject({
        destroyed: true,
      });
      expect(await answerOf(previews.run(['reap', '--json']))).toMatchObject({
        expired: ['br-feature-x'],
        problems: [],
      });
      expect(await apps()).toEqual(PRODUCTION);
    });

    test.skipIf(process.platform !== 'linux')(
      'an up that is killed leaves a lock: destroy says so, and with --force leaves nothing at Fly; a second one finds nothing',
      async () => {
        // Made at Fly, unknown to the state. When it is killed all the rest has been written: a kill can tear a state in a folder.
        const killer = new AbortController();
        const made = appsOf('pr-10').map(() => world.recorder.holdAnswerOf(/^POST \/v1\/apps$/));
        const killed = previews.run(['up', '--pr', '10'], { supabase: second, kill: killer.signal });
        await Promise.all(made);
        const state = join(world.folder, 'state/.pulumi/stacks/mobvibe/pr-10.json');
        const pending = () => JSON.parse(readFileSync(state, 'utf8')).checkpoint.latest;
        await expect.poll(pending, { timeout: MINUTES }).toMatchObject({
          pending_operations: made.map(() => expect.anything()),
          resources: expect.arrayContaining([
            expect.objectContaining({ type: expect.stringMatching(/:ApiKey$/), id: 'stack-pr-10' }),
          ]),
        });
        killer.abort();
        await killed;
        expect(await apps()).toEqual([...appsOf('pr-10'), ...PRODUCTION].sort());
        expect(await refused(previews.run(['destroy', '--pr', '10']))).toContain('--stack pr-10 --force');
        const done = await answerOf(previews.run(['destroy', '--pr', '10', '--force', '--json']));
        expect(done).toMatchObject({ destroyed: true });
        expect(done.swept.sort()).toEqual(appsOf('pr-10').sort());
        expect(await apps()).toEqual(PRODUCTION);
        expect(await answerOf(previews.run(['destroy', '--pr', '10', '--json']))).toMatchObject({
          destroyed: false,
        });
      },
    );

    test('a mistake is said before anything is done', async () => {
      const stacks = async () => (await world.pulumi(['stack', 'ls', '--json'])).output;
      const before = await stacks();
      const env = { SUPABASE_DB_URL: '', FLY_API_TOKEN: 'x' };
      const supabase = second;
      expect(await refused(previews.run(['up', '--pr', '11'], { supabase, env }))).toBe(
        'not set: SUPABASE_DB_URL\n',
      );
      expect(await refused(previews.run(['destroy', '--stack', 'prod']))).toContain('"prod" is no preview');
      expect(await refused(previews.run(['up', '--pr', '11', '--branch', 'x']))).toContain(
        'one of --pr and --branch',
      );
      const secret = previews.run(['up', '--pr', '11', '--set', 'supabaseDbUrl=x'], { supabase });
      expect(await refused(secret)).toContain('give it by the variable SUPABASE_DB_URL');
      expect(await stacks()).toBe(before);
    });

    test('no secret was shown, is in a file of the project, or stood on a command line', async () => {
      const files = await readdir(join(previews.project, '.mobvibe'), {
        recursive: true,
        withFileTypes: true,
      });
      const kept = files
        .filter((file) => file.isFile())
        .map(({ parentPath, name }) => join(parentPath, name));
      const settings = kept.filter((path) => /Pulumi\..*yaml$/.test(path));
      const calls = (await previews.commandLines()).join('\n');
      const text = [...world.said, calls, ...settings.map((path) => readFileSync(path, 'utf8'))].join('\n');
      expect(text).toContain('mobvibe-pr-7-ctl');
      expect(calls).toContain('config set --secret supabaseDbUrl');
      const secrets = [first, second].flatMap((one) => [one.secretKey, one.connection.password]);
      for (const secret of [world.token, ...secrets]) expect(text.includes(secret)).toBe(false);
    });
  },
);
