import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type LocalFly, startLocalFly } from '../../local/fly/server.ts';
import { createSimulatedEngine } from '../../local/fly/simulated/engine.ts';
import { immediateTimings } from '../../local/fly/timings.ts';
import { type LocalSupabase, startLocalSupabase } from '../../local/supabase/server.ts';
import { type Recorder, startRecorder } from './recorder.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const UP_TIMEOUT_MS = 240_000;

/** Why these tests can't run here, or undefined. */
export function missing(): string | undefined {
  if (spawnSync('pulumi', ['version']).status !== 0) return 'no `pulumi` on PATH';
  const plugins = spawnSync('pulumi', ['plugin', 'ls', '--json'], { encoding: 'utf8' }).stdout;
  const command = onPath('pulumi-resource-command') || plugins.includes('"command"');
  return command
    ? undefined
    : 'the Pulumi plugin `command` is not installed: pulumi plugin install resource command 1.2.1';
}

function onPath(program: string): boolean {
  return (process.env.PATH ?? '').split(':').some((folder) => existsSync(join(folder, program)));
}

export interface PulumiRun {
  code: number;
  output: string;
}

/** A Fly organisation and a Supabase project on loopback, and the real Pulumi with a state of its own. */
export interface World {
  fly: LocalFly;
  recorder: Recorder;
  supabase: LocalSupabase;
  token: string;
  /** Everything that Pulumi said in this world, and each state that it left. */
  said: string[];
  stack(name: string, config?: Record<string, string>): Promise<Stack>;
  close(): Promise<void>;
}

export interface Stack {
  up(...args: string[]): Promise<PulumiRun>;
  run(...args: string[]): Promise<PulumiRun>;
  set(key: string, value: string): Promise<void>;
  output(): Promise<Record<string, unknown>>;
  /** As kept by the backend, secrets encrypted. */
  state(): Promise<string>;
}

export const SANDBOX_IMAGE = `registry.fly.io/test@sha256:${'a'.repeat(64)}`;
export const CONTROLLER_IMAGE = `registry.fly.io/test@sha256:${'b'.repeat(64)}`;

export async function startWorld(): Promise<World> {
  const home = await mkdtemp(join(tmpdir(), 'mobvibe-pulumi-'));
  // Postgres runs as another user where we are root.
  await chmod(home, 0o711);
  const token = `org_${'canary'.repeat(4)}`;
  const fly = await startLocalFly({
    engine: createSimulatedEngine(),
    stateDir: join(home, 'fly'),
    tokens: [token],
    timings: immediateTimings,
    rateLimits: false,
  });
  const recorder = await startRecorder(fly.url);
  // Bare, as a new project is: the migrations are the program's work.
  const supabase = await startLocalSupabase({
    stateDir: join(home, 'supabase'),
    bare: true,
    throwAway: true,
  });
  await mkdir(join(home, 'state'));
  // Pulumi writes a stack's settings beside the project file: a copy of that, and the program itself.
  const project = join(home, 'project');
  await mkdir(project);
  await copyFile(join(ROOT, 'Pulumi.yaml'), join(project, 'Pulumi.yaml'));
  await symlink(join(ROOT, 'infra'), join(project, 'infra'));
  const said: string[] = [];
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    PATH: `${join(ROOT, 'node_modules/.bin')}:${join(ROOT, 'node_modules/@pulumi/pulumi')}:${process.env.PATH}`,
    FLY_API_TOKEN: token,
    PULUMI_BACKEND_URL: `file://${join(home, 'state')}`,
    PULUMI_CONFIG_PASSPHRASE: 'test',
    PULUMI_SKIP_UPDATE_CHECK: 'true',
    PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: 'true',
    PULUMI_ERROR_OUTPUT_STRING: 'true',
    NO_COLOR: '1',
  };

  async function pulumi(args: string[]): Promise<PulumiRun> {
    const child = spawn('pulumi', [...args, '--non-interactive'], {
      cwd: project,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: UP_TIMEOUT_MS,
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    const [code] = await once(child, 'close');
    said.push(output);
    return { code: code ?? -1, output };
  }

  const { connection } = supabase;
  return {
    fly,
    recorder,
    supabase,
    token,
    said,
    async stack(name, config = {}) {
      const at = ['--stack', name];
      const must = async (args: string[]) => {
        const { code, output } = await pulumi(args);
        if (code !== 0) throw new Error(`pulumi ${args[0]} ended with ${code}:\n${output}`);
        return output;
      };
      await must(['stack', 'init', name]);
      const set = async (key: string, value: string, ...flags: string[]) =>
        void (await must(['config', 'set', key, value, ...flags, ...at]));
      const values = {
        flyOrg: 'personal',
        flyApiUrl: recorder.url,
        supabaseUrl: supabase.url,
        sandboxImageRef: SANDBOX_IMAGE,
        controllerImageRef: CONTROLLER_IMAGE,
        // Nothing runs in a simulated machine.
        smoke: 'false',
        ...config,
      };
      for (const [key, value] of Object.entries(values)) await set(key, value);
      await set('supabaseServiceRoleKey', supabase.secretKey, '--secret');
      const { user, password, host, port, database } = connection;
      await set('supabaseDbUrl', `postgresql://${user}:${password}@${host}:${port}/${database}`, '--secret');
      return {
        up: (...args) => pulumi(['up', '--yes', '--skip-preview', ...at, ...args]),
        run: (command, ...args) => pulumi([command!, ...at, ...args]),
        set: (key, value) => set(key, value),
        output: async () => JSON.parse(await must(['stack', 'output', '--json', '--stack', name])),
        state: () => must(['stack', 'export', '--stack', name]),
      };
    },
    async close() {
      await recorder.close();
      await fly.close();
      await supabase.close();
      await rm(home, { recursive: true, force: true });
    },
  };
}
