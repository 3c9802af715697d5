import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { dbUrlOf } from '../../local/supabase/keys.ts';
import { type LocalSupabase, startLocalSupabase } from '../../local/supabase/server.ts';
import { CONTROLLER_IMAGE, type PulumiRun, SANDBOX_IMAGE, type World } from './engine.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TIMEOUT_MS = 240_000;

export interface PreviewOptions {
  /** Default: the world's. */
  supabase?: LocalSupabase;
  env?: Record<string, string>;
  /** Kills it, with all that it started. */
  kill?: AbortSignal;
}

/** `npm run preview` in a world: on its copy of the project, with the settings that a simulated Fly needs. */
export interface Previews {
  project: string;
  /** `answer`: what it said on stdout. */
  run(args: string[], options?: PreviewOptions): Promise<PulumiRun & { answer: string }>;
  /** A bare Supabase project more; closed by `close`. */
  anotherSupabase(): Promise<LocalSupabase>;
  /** How it called the Pulumi CLI, a line each. */
  commandLines(): Promise<string[]>;
  close(): Promise<void>;
}

export async function previewsOf(world: World): Promise<Previews> {
  const project = join(world.folder, 'project');
  const calls = join(world.folder, 'calls');
  const bin = await noteCalls(join(world.folder, 'bin'), calls);
  await copyFile(join(ROOT, 'Pulumi.preview.yaml'), join(project, 'Pulumi.preview.yaml'));
  const settings = {
    flyOrg: 'personal',
    flyApiUrl: world.recorder.url,
    sandboxImageRef: SANDBOX_IMAGE,
    controllerImageRef: CONTROLLER_IMAGE,
    smoke: 'false',
    discardUnsaved: 'true',
  };
  const set = Object.entries(settings).flatMap(([key, value]) => ['--set', `${key}=${value}`]);
  const others: LocalSupabase[] = [];
  return {
    project,
    async run(args, { supabase = world.supabase as LocalSupabase, env = {}, kill } = {}) {
      const command = [join(ROOT, 'infra/preview/main.ts'), ...args, '--project', project, ...set];
      const child = spawn(process.execPath, command, {
        cwd: project,
        env: {
          ...world.env,
          PATH: `${bin}:${world.env.PATH}`,
          SUPABASE_URL: supabase.url,
          SUPABASE_SERVICE_ROLE_KEY: supabase.secretKey,
          SUPABASE_DB_URL: dbUrlOf(supabase.connection),
          ...env,
        },
        stdio: ['ignore', 'pipe', 'pipe'],
        timeout: TIMEOUT_MS,
        detached: true,
      });
      kill?.addEventListener('abort', () => killSession(child.pid!), { once: true });
      let answer = '';
      let output = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        answer += text;
        output += text;
      });
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
      const [code] = await once(child, 'close');
      world.said.push(output);
      return { code: code ?? -1, output, answer };
    },
    async anotherSupabase() {
      const stateDir = join(world.folder, `supabase-${others.length + 2}`);
      const other = await startLocalSupabase({ stateDir, bare: true, throwAway: true });
      others.push(other);
      return other;
    },
    commandLines: async () => (await readFile(calls, 'utf8')).split('\n').filter(Boolean),
    async close() {
      for (const other of others) await other.close();
    },
  };
}

/** A folder for the PATH, whose `pulumi` writes down how it was called and becomes the real one. */
async function noteCalls(folder: string, file: string): Promise<string> {
  const real = spawnSync('sh', ['-c', 'command -v pulumi'], { encoding: 'utf8' }).stdout.trim();
  await mkdir(folder);
  const script = `#!/bin/sh\necho "$@" >> '${file}'\nexec '${real}' "$@"\n`;
  await writeFile(join(folder, 'pulumi'), script, { mode: 0o755 });
  return folder;
}

/** Pulumi puts its plugins into groups of their own, and one that outlived it would go on asking Fly; the session is one. */
function killSession(leader: number): void {
  const inSession = (pid: string) => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // After the name, which may hold anything: state, parent, group, session.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[3] === String(leader);
  };
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (inSession(pid)) process.kill(Number(pid), 'SIGKILL');
    } catch {
      // Gone meanwhile.
    }
  }
}
