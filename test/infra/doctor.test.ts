import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Finding } from '../../infra/doctor/finding.ts';
import { dbUrlOf } from '../../local/supabase/keys.ts';
import { Cli } from '../client/support/run-cli.ts';
import { type Project, startProject } from '../local-supabase/project.ts';
import { type FlyWorld, startFlyWorld, TOKEN } from './fly-world.ts';

const MIGRATIONS = fileURLToPath(new URL('../../supabase/migrations', import.meta.url));
const DIGEST = `registry.fly.io/x@sha256:${'a'.repeat(64)}`;

/** The whole of it as a process, as it is typed, against the stand-ins; `pulumi` is a script that answers as the CLI does. */
describe('mobvibe doctor', () => {
  let folder: string;
  let fly: FlyWorld;
  let project: Project;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'mobvibe-doctor-'));
    [fly, project] = await Promise.all([startFlyWorld(), startProject({ migrationsDir: MIGRATIONS })]);
    await mkdir(join(folder, 'bin'));
    await symlink(process.execPath, join(folder, 'bin/node'));
    await mkdir(join(folder, 'docker'));
    // With a helper, the registry itself is not asked.
    const config = { credHelpers: { 'registry.fly.io': 'pass' } };
    await writeFile(join(folder, 'docker/config.json'), JSON.stringify(config));
  });
  afterAll(async () => {
    await fly?.close();
    await project?.close();
    await rm(folder, { recursive: true, force: true });
  });

  const dbUrl = () => dbUrlOf(project.supabase.connection);
  async function pulumi(settings: Record<string, { value: string; secret?: boolean }>): Promise<void> {
    const own = Object.entries(settings).map(([key, setting]) => [
      `mobvibe:${key}`,
      { secret: false, ...setting },
    ]);
    await writeFile(join(folder, 'config.json'), JSON.stringify(Object.fromEntries(own)));
    const plugins = ['command 1.2.1', 'docker 5.2.0'].map((one) => one.split(' '));
    const list = JSON.stringify(plugins.map(([name, version]) => ({ name, kind: 'resource', version })));
    const script = `#!/bin/sh
case "$*" in
  version*) echo v3.259.0;;
  "plugin ls"*) echo '${list}';;
  whoami*) echo '{"user":"ada","url":"postgres://ada:canary-backend@db.example/states"}';;
  "stack --show-name"*) echo prod;;
  config*) /bin/cat ${folder}/config.json;;
  *) echo "error: unknown command $*" >&2; exit 1;;
esac
`;
    await writeFile(join(folder, 'bin/pulumi'), script);
    await chmod(join(folder, 'bin/pulumi'), 0o755);
  }
  const good = () => ({
    flyOrg: { value: 'acme' },
    flyApiUrl: { value: fly.fly.url },
    supabaseUrl: { value: project.supabase.url },
    supabaseServiceRoleKey: { value: project.supabase.secretKey, secret: true },
    supabaseDbUrl: { value: dbUrl(), secret: true },
    sandboxImageRef: { value: DIGEST },
    controllerImageRef: { value: DIGEST },
  });
  const doctor = (args: string[], env: Record<string, string> = {}) =>
    new Cli(['doctor', ...args], { PATH: join(folder, 'bin'), FLY_API_TOKEN: TOKEN, ...env }).ended;
  /** By check; those of plugins are two. */
  const byCheck = (stdout: Buffer) => {
    const { ok, findings } = JSON.parse(stdout.toString()) as { ok: boolean; findings: Finding[] };
    return { ok, of: Object.fromEntries(findings.map((finding) => [finding.check, finding])) };
  };

  test('finds nothing wrong where nothing is, and shows no secret', async () => {
    await pulumi(good());
    const { code, stdout, stderr } = await doctor([]);
    const lines = stdout.toString().trimEnd().split('\n');
    expect(stderr).toBe('');
    expect(lines.map((line) => line.split(/\s+/).slice(0, 2).join(' '))).toEqual([
      'ok node',
      'ok packages',
      'ok pulumi',
      'ok plugins',
      'ok plugins',
      'ok backend',
      'ok stack',
      'ok secrets',
      'ok settings',
      'skipped docker',
      'skipped registry',
      'ok fly',
      'ok supabase',
      'ok database',
      'ok migrations',
    ]);
    expect(code).toBe(0);
    const { secretKey, connection } = project.supabase;
    for (const secret of [TOKEN, secretKey, connection.password, 'canary-backend'])
      expect(stdout.toString()).not.toContain(secret);
  });

  test('says what is wrong and how to mend it, once as text and once as JSON', async () => {
    await pulumi({ ...good(), region: { value: 'Amsterdam' }, flyApiUrl: { value: 'http://127.0.0.1:1' } });
    const env = {
      FLY_API_TOKEN: 'fm2_canary-of-nobody',
      SUPABASE_SERVICE_ROLE_KEY: 'sb_secret_canary-of-another',
    };
    const [text, json] = await Promise.all([doctor([], env), doctor(['--json'], env)]);
    expect([text.code, json.code]).toEqual([1, 1]);
    expect(text.stdout.toString()).toContain(
      'wrong    settings   region is "Amsterdam": a Fly region such as sjc (fly platform regions)\n' +
        '                    $ pulumi config set region VALUE --stack prod\n',
    );
    const { ok, of } = byCheck(json.stdout);
    expect(ok).toBe(false);
    expect(of).toMatchObject({
      fly: { status: 'wrong', mend: 'curl -sS http://127.0.0.1:1/v1/platform/regions' },
      supabase: { status: 'wrong', mend: 'pulumi config set --secret supabaseServiceRoleKey' },
      database: { status: 'ok' },
    });
    expect(text.stdout.toString() + json.stdout.toString()).not.toContain('canary');
  });

  test('without Pulumi looks at what it can', async () => {
    const { code, stdout } = await doctor(['--json'], {
      PATH: '/nonexistent',
      DOCKER_CONFIG: join(folder, 'docker'),
      DOCKER_HOST: `unix://${folder}/none.sock`,
      FLY_FLAPS_BASE_URL: fly.fly.url,
      SUPABASE_DB_URL: dbUrl(),
    });
    expect(code).toBe(1);
    expect(byCheck(stdout).of).toMatchObject({
      node: { status: 'wrong' },
      packages: { status: 'ok' },
      pulumi: { status: 'wrong', says: 'no pulumi on the PATH' },
      stack: { status: 'skipped', says: 'no pulumi on the PATH' },
      settings: { status: 'skipped' },
      docker: { status: 'wrong' },
      registry: { status: 'ok' },
      supabase: { status: 'skipped' },
      database: { status: 'ok' },
      migrations: { status: 'ok' },
    });
  });

  test('settings that can’t be read are not taken for missing', async () => {
    await pulumi(good());
    await rm(join(folder, 'config.json'));
    const env = { FLY_FLAPS_BASE_URL: fly.fly.url, DOCKER_CONFIG: join(folder, 'docker') };
    expect(byCheck((await doctor(['--json'], env)).stdout).of).toMatchObject({
      secrets: { status: 'wrong' },
      settings: { status: 'skipped', says: 'they could not be read' },
    });
  });

  test('an unknown option is a mistake', async () => {
    expect(await doctor(['--stuck', 'prod'])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/--stuck/),
    });
  });
});
