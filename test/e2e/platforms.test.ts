import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createClient } from '@supabase/supabase-js';
import { Client } from 'pg';
import { afterAll, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MAIN = join(ROOT, 'local/stack/platforms.ts');
const folder = mkdtempSync(join(tmpdir(), 'mv-platforms-'));
chmodSync(folder, 0o711);
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 8, retryDelay: 100 }));

interface Run {
  child: ChildProcess;
  output(): string;
  ended: Promise<unknown[]>;
}

function platforms(...args: string[]): Run {
  return run(process.execPath, [MAIN, '--state-dir', join(folder, 's'), ...args]);
}

function run(program: string, args: string[]): Run {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: ROOT });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data) => {
      output += data;
    });
  }
  return { child, output: () => output, ended: once(child, 'close') };
}

test('it plays a bare Fly and a bare Supabase, prints what reaches them, and ends with Ctrl-C', async () => {
  const { child, output, ended } = platforms('--engine', 'simulated', '--ports', '0,0,0,0');
  await expect.poll(output, { timeout: 60_000 }).toContain('Ctrl-C stops it');
  /** The file that a printed line reads. */
  const secret = (before: RegExp) => {
    const file = before.exec(output())![1]!;
    expect(statSync(file).mode & 0o777).toBe(0o600);
    return readFileSync(file, 'utf8').trim();
  };
  const setting = (key: string) => new RegExp(`config set --stack local ${key} (\\S+)`).exec(output())![1]!;

  const token = secret(/FLY_API_TOKEN="\$\(cat (\S+)\)"/);
  const authorization = `Bearer ${token}`;
  const apps = await fetch(`${setting('flyApiUrl')}/v1/apps`, { headers: { authorization } });
  expect(await apps.json()).toEqual({ total_apps: 0, apps: [] });
  expect(setting('flyApiUrlInside')).toMatch(/^http:\/\/host\.docker\.internal:\d+$/);

  const supabase = createClient(setting('supabaseUrl'), secret(/supabaseServiceRoleKey < (\S+)/));
  const { error } = await supabase.rpc('api_key_add');
  expect(error, 'there is no function of ours yet').not.toBeNull();
  const database = new Client(secret(/supabaseDbUrl < (\S+)/));
  await database.connect();
  const { rows } = await database.query("select to_regclass('public.coding_sessions') as ours");
  await database.end();
  expect(rows).toEqual([{ ours: null }]);

  child.kill('SIGINT');
  expect(await ended).toEqual([0, null]);
  await expect(fetch(setting('flyApiUrl'))).rejects.toThrow('fetch failed');
});

test('a signal to npm, which started it, ends it as well', async () => {
  const args = ['--state-dir', join(folder, 'by-npm'), '--engine', 'simulated', '--ports', '0,0,0,0'];
  const { child, output, ended } = run('npm', ['run', 'platforms', '--', ...args]);
  await expect.poll(output, { timeout: 60_000 }).toContain('Ctrl-C stops it');
  const [, url] = /flyApiUrl (\S+)/.exec(output())!;
  child.kill('SIGTERM');
  // Its output ends with the last process that has it.
  await ended;
  await expect(fetch(url!)).rejects.toThrow('fetch failed');
});

test.each([
  [['--engine', 'magic'], '--engine must be docker or simulated, got "magic"'],
  [['--ports', '1,2,3'], '--ports must be four port numbers'],
  [['--ports', '0,0,0,70000'], '--ports must be four port numbers'],
])('%j is a mistake that is named', async (args, words) => {
  const { output, ended } = platforms(...args);
  expect(await ended).toEqual([2, null]);
  expect(output()).toContain(words);
});

test('a port that is taken is named before anything is started', async () => {
  const taken = createServer();
  await once(taken.listen(0, '127.0.0.1'), 'listening');
  const { port } = taken.address() as { port: number };
  const { output, ended } = platforms('--engine', 'simulated', '--ports', `0,${port},0,0`);
  expect(await ended).toEqual([1, null]);
  expect(output()).toContain(`Port ${port} of 127.0.0.1 is in use: choose another with --ports`);
  taken.close();
});
