import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { DatabaseConnection } from '../../local/supabase/postgres/index.ts';
import { applyMigrations, MigrationError } from '../../local/supabase/postgres/migrate.ts';
import { type FreshDatabase, freshDatabase, MIGRATIONS } from './database.ts';

let database: FreshDatabase;
let dir: string;
const connection = (): DatabaseConnection => database.connection;
const column = async (sql: string) =>
  (await database.pool.query({ text: sql, rowMode: 'array' })).rows.flat();
const write = (name: string, sql: string) => writeFile(join(dir, name), sql);

beforeAll(async () => {
  database = await freshDatabase();
  dir = await mkdtemp(join(tmpdir(), 'mobvibe-test-migrations-'));
});
afterAll(async () => {
  await database.close();
  await rm(dir, { recursive: true, force: true });
});
beforeEach(async () => {
  await rm(dir, { recursive: true, force: true });
  dir = await mkdtemp(join(tmpdir(), 'mobvibe-test-migrations-'));
  await database.pool.query(
    'drop schema supabase_migrations cascade; drop schema if exists m cascade; create schema m',
  );
});

test('applies files in order, once, and keeps the history where the Supabase CLI does', async () => {
  await write('20300102000000_second.sql', 'insert into m.t values (2); insert into m.t values (3);');
  await write('20300101000000_first.sql', 'create table m.t (n int);');
  expect(await applyMigrations(connection(), dir)).toEqual(['20300101000000', '20300102000000']);
  expect(await applyMigrations(connection(), dir)).toEqual([]);
  await write('20300103000000_third.sql', 'insert into m.t values (4);');
  expect(await applyMigrations(connection(), dir)).toEqual(['20300103000000']);
  expect(await column('select n from m.t order by n')).toEqual([2, 3, 4]);
  expect(
    await column('select version, name from supabase_migrations.schema_migrations order by version'),
  ).toEqual([...['20300101000000', 'first', '20300102000000', 'second', '20300103000000', 'third']]);
});

test('a file that fails leaves nothing behind and is named; those before it stay', async () => {
  await write('20300101000000_good.sql', 'create table m.good ();');
  await write('20300102000000_bad.sql', 'create table m.half (); select 1/0;');
  await expect(applyMigrations(connection(), dir)).rejects.toThrow(
    /20300102000000_bad failed: division by zero/,
  );
  expect(await column(`select tablename::text from pg_tables where schemaname = 'm'`)).toEqual(['good']);
  await write('20300102000000_bad.sql', 'create table m.whole ();');
  expect(await applyMigrations(connection(), dir)).toEqual(['20300102000000']);
});

test('several at once apply each file once', async () => {
  await write('20300101000000_slow.sql', 'create table m.once (); select pg_sleep(0.1);');
  const applied = await Promise.all([1, 2, 3].map(() => applyMigrations(connection(), dir)));
  expect(applied.flat()).toEqual(['20300101000000']);
});

test('refuses files that do not fit the history', async () => {
  await write('20300102000000_first.sql', 'create table m.first ();');
  await applyMigrations(connection(), dir);
  await write('20300102000000_first.sql', 'create table m.other ();');
  await expect(applyMigrations(connection(), dir)).rejects.toThrow(/20300102000000_first was changed after/);
  await write('20300102000000_first.sql', 'create table m.first ();');
  await write('20300101000000_before.sql', 'select 1;');
  await expect(applyMigrations(connection(), dir)).rejects.toThrow(
    /20300101000000_before is older than 20300102000000/,
  );
  await rm(join(dir, '20300101000000_before.sql'));
  await rm(join(dir, '20300102000000_first.sql'));
  await expect(applyMigrations(connection(), dir)).rejects.toThrow(
    /20300102000000 was applied.* has no file/,
  );
  await write('first.sql', 'select 1;');
  await expect(applyMigrations(connection(), dir)).rejects.toThrow(MigrationError);
});

test('accepts a history that the Supabase CLI has written, statement by statement', async () => {
  await write('20300101000000_first.sql', 'create table m.a (); create table m.b ();');
  await applyMigrations(connection(), dir);
  await database.pool.query(
    `update supabase_migrations.schema_migrations set statements = array['create table m.a ()', 'create table m.b ()']`,
  );
  expect(await applyMigrations(connection(), dir)).toEqual([]);
});

test('the project has migrations, and their names are as the Supabase CLI wants them', async () => {
  await expect(applyMigrations(connection(), MIGRATIONS)).rejects.toThrow(
    /20261123000100_foundations failed/,
  );
});
