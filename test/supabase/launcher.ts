import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { afterAll } from 'vitest';
import { type DatabaseConnection, startPostgres } from '../../local/supabase/postgres/index.ts';

const SCRIPT = fileURLToPath(new URL('./hold-postgres.ts', import.meta.url));

export interface Holder {
  connection: DatabaseConnection;
  /** Of the postmaster. */
  pid: number;
  uid: number;
  error?: { code: string; message: string };
  /** Ends the holding process at once, which leaves it no time to tidy up. */
  kill(): Promise<void>;
}

/** Another process that starts Postgres, perhaps as another user or with another PATH, and holds it. */
export async function holdPostgres(
  dataDir: string,
  options: { env?: NodeJS.ProcessEnv; uid?: number; gid?: number } = {},
): Promise<Holder> {
  const { env = process.env, ...account } = options;
  const child = spawn(process.execPath, [SCRIPT, dataDir], {
    ...account,
    env,
    cwd: '/',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'close');
  const line = await Promise.race([
    once(createInterface({ input: child.stdout }), 'line').then(([text]) => text as string),
    ended.then(() => {
      throw new Error(`the holder ended (${child.exitCode ?? child.signalCode}) before it said anything`);
    }),
  ]);
  return {
    ...(JSON.parse(line) as Omit<Holder, 'kill'>),
    kill: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

export function temporaryFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'mobvibe-test-launcher-'));
}

let template: Promise<string> | undefined;

/** A folder on which Postgres ran before: a copy of one that is made once per test file, because that is quicker. */
export async function usedFolder(): Promise<string> {
  template ??= temporaryFolder().then(async (dataDir) => {
    await (await startPostgres({ dataDir, throwAway: true })).stop();
    return dataDir;
  });
  const dir = await temporaryFolder();
  await promisify(execFile)('cp', ['-a', `${await template}/.`, dir]);
  return dir;
}

afterAll(async () => {
  if (template !== undefined) await rm(await template, { recursive: true, force: true });
});

export async function isAlive(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
  // A zombie has ended; whoever is its parent now may take its time to notice.
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return !/^\d+ \(.*\) [ZX] /s.test(stat);
}

export async function untilGone(pid: number): Promise<void> {
  while (await isAlive(pid)) await delay(10);
}

export async function query(connection: DatabaseConnection, sql: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ ...connection, connectionTimeoutMillis: 10_000 });
  // A connection that breaks also fails its query.
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}
