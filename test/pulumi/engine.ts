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
import { dbUrlOf } from '../../local/supabase/keys.ts';
import { type LocalSupabase, startLocalSupabase } from '../../local/supabase/server.ts';
import type { Platforms, PlatformsOptions } from '../containers/platforms.ts';
import { type Recorder, startRecorder } from './recorder.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const UP_TIMEOUT_MS = 240_000;

/** The resource plugins, in the versions of their npm packages. */
const PLUGINS = { command: '1.2.1', docker: '5.2.0' };

/** Why tests that need these plugins can't run here, or undefined. */
export function missing(...plugins: (keyof typeof PLUGINS)[]): string | undefined {
  if (spawnSync('pulumi', ['version']).status !== 0) return 'no `pulumi` on PATH';
  const installed = spawnSync('pulumi', ['plugin', 'ls', '--json'], { encoding: 'utf8' }).stdout;
  const lacking = plugins.find(
    (name) => !onPath(`pulumi-resource-${name}`) && !installed.includes(`"${name}"`),
  );
  return lacking === undefined
    ? undefined
    : `the Pulumi plugin \`${lacking}\` is not installed: pulumi plugin install resource ${lacking} ${PLUGINS[lacking]}`;
}

function onPath(program: string): boolean {
  return (process.env.PATH ?? '').split(':').some((folder) => existsSync(join(folder, program)));
}

interface RunOptions {
  input?: string;
  /** What it says is not kept: it was asked for a secret. */
  confidential?: boolean;
  kill?: Promise<NodeJS.Signals>;
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
  /** Of this world alone. `project` in it is where Pulumi runs, in this environment. */
  folder: string;
  env: NodeJS.ProcessEnv;
  stack(name: string, config?: Record<string, string>): Promise<Stack>;
  pulumi(args: string[]): Promise<PulumiRun>;
  close(): Promise<void>;
}

export interface Stack {
  up(...args: string[]): Promise<PulumiRun>;
  run(command: string, ...args: string[]): Promise<PulumiRun>;
  /** Pulumi and its plugins get the signal when the promise settles, as from a terminal. */
  killed(signal: Promise<NodeJS.Signals>, command: string, ...args: string[]): Promise<PulumiRun>;
  set(key: string, value: string): Promise<void>;
  /** Secrets in clear. */
  output(): Promise<Record<string, unknown>>;
  /** As kept by the backend, secrets encrypted. */
  state(): Promise<string>;
}

export const SANDBOX_IMAGE = `registry.fly.io/test@sha256:${'a'.repeat(64)}`;
export const CONTROLLER_IMAGE = `registry.fly.io/test@sha256:${'b'.repeat(64)}`;

type Open = (
  options: PlatformsOptions,
) => Promise<Pick<Platforms, 'fly' | 'supabase' | 'settings' | 'close'>>;

interface WorldOptions {
  /** Starts Fly and Supabase. Default: machines are simulated, and images are given. */
  open?: Open;
  /** Folder of the program, in this repository. Default: ours. */
  program?: string;
  /** The variables that say where Pulumi keeps its state. Default: a folder. */
  backend?: (supabase: LocalSupabase) => Promise<Record<string, string>>;
}

export async function startWorld({
  open = openSimulated,
  program = 'infra',
  backend,
}: WorldOptions = {}): Promise<World> {
  const home = await mkdtemp(join(tmpdir(), 'mobvibe-pulumi-'));
  // Postgres runs as another user where we are root.
  await chmod(home, 0o711);
  const token = `org_${'canary'.repeat(4)}`;
  // Bare, as a new project is: the migrations are the program's work.
  const platforms = await open({ home, token, bare: true }).catch(async (error) => {
    await rm(home, { recursive: true, force: true });
    throw error;
  });
  const { fly, supabase } = platforms;
  const recorder = await startRecorder(fly.url);
  await mkdir(join(home, 'state'));
  // Pulumi writes a stack's settings beside the project file: a copy of that, and the program itself.
  const project = join(home, 'project');
  await mkdir(project);
  await copyFile(join(ROOT, 'Pulumi.yaml'), join(project, 'Pulumi.yaml'));
  await symlink(join(ROOT, program), join(project, 'infra'));
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
    ...(await backend?.(supabase)),
  };

  async function pulumi(
    args: string[],
    { input = '', confidential, kill }: RunOptions = {},
  ): Promise<PulumiRun> {
    const child = spawn('pulumi', [...args, '--non-interactive'], {
      cwd: project,
      env,
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: UP_TIMEOUT_MS,
      // With its plugins it is a group that a signal can be sent to, as a terminal does.
      detached: true,
    });
    child.stdin.on('error', () => {}).end(input);
    void kill?.then((signal) => child.exitCode === null && process.kill(-child.pid!, signal));
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    const [code] = await once(child, 'close');
    if (!confidential) said.push(output);
    return { code: code ?? -1, output };
  }

  return {
    fly,
    recorder,
    supabase,
    token,
    said,
    folder: home,
    env,
    pulumi: (args) => pulumi(args),
    async stack(name, config = {}) {
      const at = ['--stack', name];
      const must = async (args: string[], options?: RunOptions) => {
        const { code, output } = await pulumi(args, options);
        if (code !== 0) throw new Error(`pulumi ${args[0]} ended with ${code}:\n${output}`);
        return output;
      };
      await must(['stack', 'init', name]);
      const set = async (values: Record<string, string>) => {
        const pairs = Object.entries(values).flatMap(([key, value]) => ['--plaintext', `${key}=${value}`]);
        await must(['config', 'set-all', ...pairs, ...at]);
      };
      const values = {
        ...platforms.settings,
        flyApiUrl: recorder.url,
        ...config,
      };
      await set(values);
      const setSecret = (key: string, input: string) =>
        must(['config', 'set', key, '--secret', ...at], { input });
      await setSecret('supabaseServiceRoleKey', supabase.secretKey);
      await setSecret('supabaseDbUrl', dbUrlOf(supabase.connection));
      return {
        up: (...args) => pulumi(['up', '--yes', '--skip-preview', ...at, ...args]),
        run: (command, ...args) => pulumi([command, ...at, ...args]),
        killed: (kill, command, ...args) => pulumi([command, ...at, ...args], { kill }),
        set: (key, value) => set({ [key]: value }),
        output: async () =>
          JSON.parse(
            await must(['stack', 'output', '--json', '--show-secrets', ...at], { confidential: true }),
          ),
        state: () => must(['stack', 'export', '--stack', name]),
      };
    },
    async close() {
      await recorder.close();
      await platforms.close();
      await rm(home, { recursive: true, force: true });
    },
  };
}

async function openSimulated({ home, token, bare }: PlatformsOptions): ReturnType<Open> {
  const fly = await startLocalFly({
    engine: createSimulatedEngine(),
    stateDir: join(home, 'fly'),
    tokens: [token],
    timings: immediateTimings,
    rateLimits: false,
  });
  const supabase = await startLocalSupabase({ stateDir: join(home, 'supabase'), bare, throwAway: true });
  return {
    fly,
    supabase,
    settings: {
      flyOrg: 'personal',
      supabaseUrl: supabase.url,
      sandboxImageRef: SANDBOX_IMAGE,
      controllerImageRef: CONTROLLER_IMAGE,
      // Nothing runs in a simulated machine.
      smoke: 'false',
      discardUnsaved: 'true',
    },
    async close() {
      await fly.close();
      await supabase.close();
    },
  };
}
