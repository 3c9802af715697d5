import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type GatewayOptions, startGateway } from './gateway/gateway.ts';
import { dbUrlFile, keepDbUrl, projectKeys, secretKeyFile } from './keys.ts';
import { bootstrap } from './postgres/bootstrap.ts';
import { type DatabaseConnection, type Postgres, startPostgres } from './postgres/index.ts';
import { applyMigrations } from './postgres/migrate.ts';

export interface LocalSupabaseOptions
  extends Pick<
    GatewayOptions,
    'port' | 'now' | 'maxObjectBytes' | 'maxConnections' | 'statementTimeoutMs' | 'schemaCache'
  > {
  /** Holds the database, the files of Storage and the keys; made when missing, kept between starts. */
  stateDir: string;
  /** Default: `supabase/migrations` of this project. */
  migrationsDir?: string;
  /** No migrations are applied: a project as it is when it is new. Default false. */
  bare?: boolean;
  /** Port of Postgres on loopback. Default 0: any free one. */
  dbPort?: number;
  /** For tests: a power cut may lose the database's data. Default false. */
  throwAway?: boolean;
  /** Called with each line that Postgres or the gateway logs. */
  log?: (line: string) => void;
}

export interface LocalSupabase {
  /** The `SUPABASE_URL`. */
  url: string;
  secretKey: string;
  publishableKey: string;
  /** File with the secret key. */
  secretKeyFile: string;
  /** File with the connection string of the database, as its owner. */
  dbUrlFile: string;
  /** To Postgres as superuser, past the gateway: for tests and for looking. */
  connection: DatabaseConnection;
  /** Settles when Postgres has ended, also when nobody asked for it. */
  exited: Postgres['exited'];
  close(): Promise<void>;
}

const MIGRATIONS = fileURLToPath(new URL('../../supabase/migrations', import.meta.url));

/** Starts Postgres, brings it up to the migrations, and serves it on loopback as Supabase does. */
export async function startLocalSupabase(options: LocalSupabaseOptions): Promise<LocalSupabase> {
  const {
    stateDir: given,
    migrationsDir = MIGRATIONS,
    bare,
    throwAway,
    dbPort,
    log,
    ...gatewayOptions
  } = options;
  const stateDir = resolve(given);
  await mkdir(stateDir, { recursive: true });
  const keys = await projectKeys(stateDir);
  const postgres = await startPostgres({
    dataDir: join(stateDir, 'postgres'),
    ...(throwAway !== undefined && { throwAway }),
    ...(dbPort !== undefined && { port: dbPort }),
    ...(log && { log: (line) => log(`postgres: ${line}`) }),
  });
  try {
    const connection = await bootstrap(postgres.connection);
    if (!bare) await applyMigrations(postgres.connection, migrationsDir);
    await keepDbUrl(stateDir, postgres.connection);
    const gateway = await startGateway({
      ...gatewayOptions,
      connection,
      keys,
      storageDir: join(stateDir, 'storage'),
      ...(log && { log: (line) => log(`gateway: ${line}`) }),
    });
    return {
      url: gateway.url,
      secretKey: keys.secretKey,
      publishableKey: keys.publishableKey,
      secretKeyFile: secretKeyFile(stateDir),
      dbUrlFile: dbUrlFile(stateDir),
      connection: postgres.connection,
      exited: postgres.exited,
      async close() {
        await gateway.close();
        await postgres.stop();
      },
    };
  } catch (error) {
    await postgres.stop();
    throw error;
  }
}
