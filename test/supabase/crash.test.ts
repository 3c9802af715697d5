import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chown, mkdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { installedFolder } from '../../local/supabase/postgres/binaries.ts';
import { startPostgres } from '../../local/supabase/postgres/index.ts';
import { type Holder, holdPostgres, isAlive, query, untilGone, usedFolder } from './launcher.ts';

const LINUX = process.platform === 'linux';
let dataDir: string;
const held: Holder[] = [];
beforeEach(async () => {
  dataDir = await usedFolder();
});
afterEach(async () => {
  await Promise.all(held.splice(0).map((holder) => holder.kill()));
  await rm(dataDir, { recursive: true, force: true, maxRetries: 10 });
});

async function hold(options?: Parameters<typeof holdPostgres>[1]): Promise<Holder> {
  const holder = await holdPostgres(dataDir, options);
  held.push(holder);
  expect(holder.error).toBeUndefined();
  return holder;
}

/** Starts on the folder, hands over what the table holds, stops. */
async function readBack(): Promise<unknown[]> {
  const postgres = await startPostgres({ dataDir, throwAway: true });
  try {
    return await query(postgres.connection, 'select n from kept order by n');
  } finally {
    await postgres.stop();
  }
}

describe('when the process that started Postgres', () => {
  test.runIf(LINUX)('is killed, Postgres ends too and has everything', async () => {
    const holder = await hold();
    await query(holder.connection, 'create table kept as select 1 as n');
    await holder.kill();
    await untilGone(holder.pid);
    expect(await readBack()).toEqual([{ n: 1 }]);
  });

  test.runIf(LINUX)('is killed where setpriv is missing, the next start stops what was left', async () => {
    const bin = join(dataDir, 'bin');
    await mkdir(bin);
    for (const tool of ['id', 'test']) await symlink(`/usr/bin/${tool}`, join(bin, tool));
    const holder = await hold({ env: { ...process.env, PATH: bin } });
    await query(holder.connection, 'create table kept as select 2 as n');
    await holder.kill();
    expect(await isAlive(holder.pid)).toBe(true);
    expect(await readBack()).toEqual([{ n: 2 }]);
    expect(await isAlive(holder.pid)).toBe(false);
  });

  test('is alive, another process is refused and told who it is', async () => {
    const holder = await hold();
    const second = await holdPostgres(dataDir);
    held.push(second);
    expect(second.error).toMatchObject({
      code: 'folder_in_use',
      message: expect.stringContaining(String(holder.pid)),
    });
    expect(await query(holder.connection, 'select 1 as one')).toEqual([{ one: 1 }]);
  });
});

test('killed together with its starter in the middle of writes, Postgres comes back with all that it had confirmed', async () => {
  const holder = await hold();
  await query(holder.connection, 'create table kept (n int)');
  let confirmed = 0;
  const writing = (async () => {
    for (;;) {
      await query(holder.connection, `insert into kept values (${confirmed + 1})`);
      confirmed += 1;
    }
  })().catch(() => {});
  // Keeps a backend busy, so that one outlives its postmaster and holds the shared memory.
  const busy = query(holder.connection, 'select count(*) from generate_series(1, 8000000)').catch(() => {});
  while (confirmed < 20) await query(holder.connection, 'select 1');
  process.kill(holder.pid, 'SIGKILL');
  await holder.kill();
  await writing;
  const rows = (await readBack()) as { n: number }[];
  expect(rows.slice(0, confirmed).map(({ n }) => n)).toEqual(
    Array.from({ length: confirmed }, (_, n) => n + 1),
  );
  await busy;
});

test('a pid file that names some other program is no obstacle', async () => {
  const first = await startPostgres({ dataDir, throwAway: true });
  await query(first.connection, 'create table kept as select 3 as n');
  await first.stop();
  const pidFile = join(dataDir, 'cluster', 'postmaster.pid');
  await writeFile(pidFile, `${process.pid}\n${join(dataDir, 'cluster')}\n1\n1\n\n127.0.0.1\n0 0\nready   \n`);
  expect(await readBack()).toEqual([{ n: 3 }]);
});

test('Postgres that someone else runs on the folder is left alone', async () => {
  const cluster = join(dataDir, 'cluster');
  const { uid, gid } = await stat(cluster);
  const postgres = join(installedFolder(process.platform, process.arch), 'bin', 'postgres');
  const child = spawn(
    postgres,
    ['-D', cluster, '-c', 'listen_addresses=', '-c', `unix_socket_directories=${cluster}`],
    {
      ...(process.getuid?.() === 0 && { uid, gid }),
      cwd: cluster,
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  const ended = once(child, 'exit');
  try {
    for await (const line of createInterface({ input: child.stderr }))
      if (line.includes('ready to accept')) break;
    await expect(startPostgres({ dataDir, throwAway: true })).rejects.toMatchObject({
      code: 'folder_in_use',
      message: expect.stringContaining(`process ${child.pid}`),
    });
    expect(await isAlive(child.pid!)).toBe(true);
  } finally {
    child.kill('SIGINT');
    await ended;
  }
});

test.runIf(LINUX && process.getuid?.() === 0)('an ordinary user starts it as itself', async (ctx) => {
  const [uid, gid] = [65_534, 65_534];
  await rm(join(dataDir, 'cluster'), { recursive: true });
  await rm(join(dataDir, 'password'));
  await chown(dataDir, uid, gid);
  const holder = await holdPostgres(dataDir, { uid, gid, env: { PATH: process.env.PATH } }).catch(
    () => undefined,
  );
  if (holder === undefined) return ctx.skip('that user cannot read this checkout');
  held.push(holder);
  expect(holder.error).toBeUndefined();
  expect(holder.uid).toBe(uid);
  expect(await readFile(`/proc/${holder.pid}/status`, 'utf8')).toMatch(new RegExp(`^Uid:\\s+${uid}\\s`, 'm'));
  await query(holder.connection, 'create table kept as select 4 as n');
  await holder.kill();
  await untilGone(holder.pid);
});
