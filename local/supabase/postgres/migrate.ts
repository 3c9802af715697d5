import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Client } from 'pg';
import type { DatabaseConnection } from './index.ts';
import { withExclusiveClient } from './session.ts';

export interface Migration {
  /** 14 digits. */
  version: string;
  name: string;
  sql: string;
}

export interface AppliedMigration {
  version: string;
  statements: string[] | null;
}

export class MigrationError extends Error {
  override readonly name = 'MigrationError';
}

/**
 * Brings a database up to the files `<14 digits>_<name>.sql` of a folder, in order, each in a transaction of its own. The history is in
 * `supabase_migrations.schema_migrations`, where the Supabase CLI keeps it too. Answers the versions that were applied now.
 * Throws `MigrationError` when the history doesn't fit the files.
 */
export async function applyMigrations(connection: DatabaseConnection, dir: string): Promise<string[]> {
  const files = await readMigrations(dir);
  return withExclusiveClient(connection, async (client) => {
    await client.query(`
      create schema if not exists supabase_migrations;
      create table if not exists supabase_migrations.schema_migrations (
        version text primary key, statements text[], name text)`);
    const history = await client.query<AppliedMigration>(
      'select version, statements from supabase_migrations.schema_migrations order by version',
    );
    const pending = pendingMigrations(files, history.rows);
    for (const migration of pending) await apply(client, migration);
    return pending.map(({ version }) => version);
  });
}

async function readMigrations(dir: string): Promise<Migration[]> {
  const names = (await readdir(dir)).filter((name) => name.endsWith('.sql')).sort();
  return Promise.all(
    names.map(async (file) => {
      const match = /^(\d{14})_(\w+)\.sql$/.exec(file);
      if (!match) {
        throw new MigrationError(`${join(dir, file)}: the name of a migration is <14 digits>_<name>.sql`);
      }
      return { version: match[1]!, name: match[2]!, sql: await readFile(join(dir, file), 'utf8') };
    }),
  );
}

/** What is still to be applied. An applied file must be there, as it was, and a new one must be newer than all that are applied. */
export function pendingMigrations(files: Migration[], applied: AppliedMigration[]): Migration[] {
  const byVersion = new Map<string, Migration>();
  for (const file of files) {
    const twin = byVersion.get(file.version);
    if (twin) {
      throw new MigrationError(`the migrations ${twin.name} and ${file.name} share version ${file.version}`);
    }
    byVersion.set(file.version, file);
  }
  for (const { version, statements } of applied) {
    const file = byVersion.get(version);
    if (!file) throw new MigrationError(`migration ${version} was applied to the database but has no file`);
    // The Supabase CLI stores single statements, we store the whole file: only our own record can be compared.
    if (statements?.length === 1 && statements[0] !== file.sql) {
      throw new MigrationError(
        `migration ${version}_${file.name} was changed after it was applied; put the change in a new file`,
      );
    }
    byVersion.delete(version);
  }
  const newest = applied.reduce((max, { version }) => (version > max ? version : max), '');
  const pending = [...byVersion.values()];
  for (const { version, name } of pending) {
    if (version < newest) {
      throw new MigrationError(
        `migration ${version}_${name} is older than ${newest}, which was applied already`,
      );
    }
  }
  return pending;
}

async function apply(client: Client, { version, name, sql }: Migration): Promise<void> {
  try {
    await client.query('begin');
    await client.query(sql);
    await client.query(
      'insert into supabase_migrations.schema_migrations (version, statements, name) values ($1, $2, $3)',
      [version, [sql], name],
    );
    await client.query('commit');
  } catch (cause) {
    // The connection may be what failed; then the server has rolled back by itself.
    await client.query('rollback').catch(() => {});
    throw new MigrationError(`migration ${version}_${name} failed: ${(cause as Error).message}`, { cause });
  }
}
