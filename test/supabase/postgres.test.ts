import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Postgres, PostgresError, startPostgres } from '../../local/supabase/postgres/index.ts';
import { query, temporaryFolder, usedFolder } from './launcher.ts';

let dataDir: string;
const running = new Set<Postgres>();
beforeEach(async () => {
  dataDir = await usedFolder();
});
afterEach(async () => {
  await Promise.all([...running].map((postgres) => postgres.stop()));
  running.clear();
  await rm(dataDir, { recursive: true, force: true });
});

async function start(options: Partial<Parameters<typeof startPostgres>[0]> = {}): Promise<Postgres> {
  const postgres = await startPostgres({ dataDir, throwAway: true, ...options });
  running.add(postgres);
  return postgres;
}

describe('startPostgres', () => {
  test('keeps data and password between starts', async () => {
    const first = await start();
    await query(first.connection, 'create table kept as select 42 as n');
    await first.stop();
    await first.stop();
    expect(await first.exited).toEqual({ code: 0, signal: null });

    const second = await start();
    expect(await query(second.connection, 'select n from kept')).toEqual([{ n: 42 }]);
    expect(second.connection.password).toBe(first.connection.password);
    expect((await readdir(dataDir)).toSorted()).toEqual(['cluster', 'password']);
    expect((await stat(join(dataDir, 'password'))).mode & 0o777).toBe(0o600);
    expect((await stat(join(dataDir, 'cluster'))).mode & 0o777).toBe(0o700);
  });

  test('syncs to disk unless the data is to be thrown away', async () => {
    const postgres = await start({ throwAway: false });
    expect(
      await query(
        postgres.connection,
        `select current_setting('fsync') as fsync, current_setting('full_page_writes') as pages,
           current_setting('synchronous_commit') as commit`,
      ),
    ).toEqual([{ fsync: 'on', pages: 'on', commit: 'on' }]);
  });

  test('listens on loopback only, asks for the password, and sorts the same on every host', async () => {
    const { connection } = await start();
    expect(
      await query(
        connection,
        `select current_setting('listen_addresses') as tcp, current_setting('unix_socket_directories') as unix,
           (select string_agg(distinct auth_method, ',') from pg_hba_file_rules) as auth,
           (select string_agg(x, '' order by x) from unnest(array['b', 'A', 'é', 'a', 'Z']) x) as sorted,
           upper('é') as upper`,
      ),
    ).toEqual([{ tcp: '127.0.0.1', unix: '', auth: 'scram-sha-256', sorted: 'AZabé', upper: 'É' }]);
    await expect(query({ ...connection, password: 'guess' }, 'select 1')).rejects.toMatchObject({
      code: '28P01',
    });
  });

  test('hands nothing of our environment to Postgres, and no password on a command line', async (ctx) => {
    if (process.platform !== 'linux') ctx.skip('reads /proc');
    process.env.MOBVIBE_TEST_SECRET = 'shh';
    try {
      const { pid, connection } = await start();
      expect(await readFile(`/proc/${pid}/environ`, 'utf8')).not.toContain('shh');
      expect(await readFile(`/proc/${pid}/cmdline`, 'utf8')).not.toContain(connection.password);
    } finally {
      delete process.env.MOBVIBE_TEST_SECRET;
    }
  });

  test('does not log the statements that fail', async () => {
    const lines: string[] = [];
    const { connection } = await start({ log: (line) => lines.push(line) });
    await expect(query(connection, `select 'shh' from nowhere`)).rejects.toMatchObject({ code: '42P01' });
    await running.values().next().value!.stop();
    expect(lines.join('\n')).toContain('relation "nowhere" does not exist');
    expect(lines.join('\n')).not.toContain('shh');
  });

  test('refuses a folder on which it runs already', async () => {
    const { pid } = await start();
    await expect(start()).rejects.toMatchObject({
      code: 'folder_in_use',
      message: expect.stringContaining(`process ${pid}, started by process ${process.pid}`),
    });
  });

  test('started several times at once on a new folder, starts once', async () => {
    await rm(dataDir, { recursive: true });
    dataDir = await temporaryFolder();
    const outcomes = await Promise.allSettled([start(), start(), start()]);
    const won = outcomes.filter(({ status }) => status === 'fulfilled');
    const lost = outcomes.filter(({ status }) => status === 'rejected') as PromiseRejectedResult[];
    expect(won).toHaveLength(1);
    for (const { reason } of lost) expect(reason).toMatchObject({ code: 'folder_in_use' });
    const { connection } = (won[0] as PromiseFulfilledResult<Postgres>).value;
    expect(await query(connection, 'select 1 as one')).toEqual([{ one: 1 }]);
    expect((await readdir(dataDir)).toSorted()).toEqual(['cluster', 'password']);
  });

  test('says which port is taken', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    try {
      await expect(start({ port })).rejects.toMatchObject({
        code: 'port_in_use',
        message: expect.stringContaining(String(port)),
      });
    } finally {
      server.close();
    }
    expect((await start({ port })).connection.port).toBe(port);
  });

  test('fails with what Postgres said', async () => {
    await writeFile(join(dataDir, 'cluster', 'postgresql.conf'), 'nonsense here\n');
    const failure = await start().catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(PostgresError);
    expect(failure).toMatchObject({
      code: 'start_failed',
      message: expect.stringContaining('parameter "nonsense"'),
    });
  });

  test('refuses a folder that holds another version or has lost its password', async () => {
    await rm(join(dataDir, 'password'));
    await expect(start()).rejects.toMatchObject({ code: 'folder_damaged' });
    await writeFile(join(dataDir, 'cluster', 'PG_VERSION'), '9.6\n');
    await expect(start()).rejects.toMatchObject({
      code: 'folder_damaged',
      message: expect.stringMatching(/Postgres 9\.6/),
    });
  });

  test('leaves nothing half-made when it has no account to run as', async (ctx) => {
    if (process.getuid?.() !== 0) ctx.skip('only root has to choose an account');
    await rm(dataDir, { recursive: true });
    dataDir = await temporaryFolder();
    await expect(start({ osUser: 'no-such-account' })).rejects.toMatchObject({ code: 'init_failed' });
    expect(await readdir(dataDir)).toEqual([]);
  });
});
