import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Finding } from '../../infra/doctor/finding.ts';
import { missing, type Stack, startWorld, type World } from './engine.ts';

const reason = missing('command');
const DOCTOR = fileURLToPath(new URL('../../infra/doctor/main.ts', import.meta.url));
const MINUTES = 60_000;

/** What the real Pulumi CLI says, read by the doctor. */
describe.skipIf(reason !== undefined)(
  `doctor${reason === undefined ? '' : `: ${reason}`}`,
  { timeout: 2 * MINUTES },
  () => {
    let world: World;
    let stack: Stack;
    beforeAll(async () => {
      world = await startWorld();
      stack = await world.stack('prod');
      const config = { credHelpers: { 'registry.fly.io': 'pass' } };
      await writeFile(join(world.folder, 'config.json'), JSON.stringify(config));
    }, 2 * MINUTES);
    afterAll(() => world?.close());

    const doctor = async (args: string[] = [], env: NodeJS.ProcessEnv = {}) => {
      const project = ['--project-dir', join(world.folder, 'project')];
      const child = spawn(process.execPath, [DOCTOR, '--json', ...project, ...args], {
        // For a look without settings: it must not leave this computer either.
        env: { ...world.env, FLY_FLAPS_BASE_URL: world.fly.url, DOCKER_CONFIG: world.folder, ...env },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let text = '';
      child.stdout.setEncoding('utf8').on('data', (data: string) => {
        text += data;
      });
      const [code] = await once(child, 'close');
      const { findings } = JSON.parse(text) as { findings: Finding[] };
      return { code, text, of: Object.fromEntries(findings.map((finding) => [finding.check, finding])) };
    };

    test('a stack that is set up, its database still bare', async () => {
      const { code, text, of } = await doctor();
      expect(of).toMatchObject({
        pulumi: { status: 'ok', says: expect.stringMatching(/^v\d/) },
        plugins: { status: expect.stringMatching(/ok|warning/) },
        backend: { status: 'ok', says: expect.stringContaining(`file://${world.folder}/state`) },
        stack: { status: 'ok', says: 'prod' },
        secrets: { status: 'ok', says: '2 can be decrypted' },
        settings: { status: 'ok' },
        fly: { status: 'ok', says: expect.stringMatching(/^lists 0 apps of personal/) },
        supabase: { status: 'ok', says: expect.stringMatching(/our functions are not there yet/) },
        database: { status: 'ok' },
        migrations: { status: 'warning', mend: 'pulumi up' },
      });
      expect(code, text).toBe(0);
      for (const secret of [world.token, world.supabase.secretKey, world.supabase.connection.password])
        expect(text).not.toContain(secret);
    });

    test('after an up, the migrations that the Supabase CLI has applied', async () => {
      const up = await stack.up();
      expect(up.code, up.output).toBe(0);
      const { of } = await doctor();
      expect(of).toMatchObject({
        fly: { says: expect.stringMatching(/^lists 3 apps of personal/) },
        supabase: { says: expect.stringMatching(/takes the service role's key$/) },
        migrations: { status: 'ok', says: expect.stringMatching(/^all \d+ are applied/) },
      });
    });

    test('a setting that the program would refuse', async () => {
      await stack.set('region', 'Amsterdam');
      expect((await doctor()).of.settings).toMatchObject({
        status: 'wrong',
        says: expect.stringMatching(/^region is "Amsterdam"/),
        mend: 'pulumi config set region VALUE --stack prod',
      });
    });

    test('a wrong passphrase', async () => {
      const { code, of } = await doctor([], { PULUMI_CONFIG_PASSPHRASE: 'canary-wrong' });
      expect(code).toBe(1);
      expect(of).toMatchObject({
        secrets: {
          status: 'wrong',
          says: expect.stringMatching(/incorrect passphrase/),
          mend: expect.stringMatching(/PULUMI_CONFIG_PASSPHRASE_FILE/),
        },
        supabase: { status: 'skipped' },
        database: { status: 'skipped' },
      });
    });

    test('a stack that is not there, and no log-in', async () => {
      expect((await doctor(['--stack', 'nope'])).of).toMatchObject({
        stack: { status: 'wrong', says: "no stack named 'nope' found", mend: 'pulumi stack init nope' },
        settings: { status: 'skipped' },
      });
      const home = join(world.folder, 'nobody');
      const env = {
        PULUMI_BACKEND_URL: undefined,
        PULUMI_ACCESS_TOKEN: undefined,
        HOME: home,
        PULUMI_HOME: home,
      };
      expect((await doctor([], env)).of).toMatchObject({
        backend: { status: 'wrong', says: expect.stringMatching(/^not logged in/), mend: 'pulumi login' },
        stack: { status: 'skipped', says: 'no backend' },
      });
      const gone = await doctor([], { PULUMI_BACKEND_URL: `file://${home}/states` });
      expect(gone.of.backend).toMatchObject({ status: 'wrong', mend: `mkdir -p ${home}/states` });
    });
  },
);
