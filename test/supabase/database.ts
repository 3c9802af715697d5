import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client, Pool } from 'pg';
import { afterAll } from 'vitest';
import { bootstrap } from '../../local/supabase/postgres/bootstrap.ts';
import {
  type DatabaseConnection,
  type Postgres,
  startPostgres,
} from '../../local/supabase/postgres/index.ts';
import { applyMigrations } from '../../local/supabase/postgres/migrate.ts';

export const MIGRATIONS = fileURLToPath(new URL('../../supabase/migrations', import.meta.url));
const TEMPLATE = 'template_mobvibe';

export interface FreshDatabase {
  /** As superuser. */
  connection: DatabaseConnection;
  /** As `authenticator`, which may only change to anon, authenticated or service_role. */
  authenticator: DatabaseConnection;
  pool: Pool;
  /** The database is gone then. */
  close(): Promise<void>;
}

interface Cluster {
  postgres: Postgres;
  dataDir: string;
  authenticator: DatabaseConnection;
}

let cluster: Promise<Cluster> | undefined;
let count = 0;

/**
 * A database with all migrations, for one test or file. The first call in a test file starts a Postgres (about a second), which ends
 * with the file; each further one only copies a template (about 50 ms).
 */
export async function freshDatabase(): Promise<FreshDatabase> {
  cluster ??= startCluster();
  const { postgres, authenticator } = await cluster;
  const database = `test_${++count}`;
  await asAdmin(postgres, `create database ${database} template ${TEMPLATE}`);
  const connection = { ...postgres.connection, database };
  const pool = new Pool({ ...connection, max: 20, connectionTimeoutMillis: 10_000 });
  // Idle connections end when a test stops Postgres or the database is dropped.
  pool.on('error', () => {});
  return {
    connection,
    authenticator: { ...authenticator, database },
    pool,
    close: async () => {
      await pool.end();
      await asAdmin(postgres, `drop database if exists ${database} with (force)`);
    },
  };
}

async function startCluster(): Promise<Cluster> {
  const dataDir = await mkdtemp(join(tmpdir(), 'mobvibe-test-postgres-'));
  const postgres = await startPostgres({ dataDir, throwAway: true });
  await asAdmin(postgres, `create database ${TEMPLATE}`);
  const template = { ...postgres.connection, database: TEMPLATE };
  const authenticator = await bootstrap(template);
  await applyMigrations(template, MIGRATIONS);
  return { postgres, dataDir, authenticator };
}

async function asAdmin(postgres: Postgres, sql: string): Promise<void> {
  const client = new Client(postgres.connection);
  await client.connect();
  await client.query(sql);
  await client.end();
}

afterAll(async () => {
  if (cluster === undefined) return;
  const { postgres, dataDir } = await cluster;
  await postgres.stop();
  await rm(dataDir, { recursive: true, force: true });
});
