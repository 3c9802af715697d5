import { chmod, mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { assertReachable, chooseAccount } from './account.ts';
import { MAJOR_VERSION, prepareBinaries } from './binaries.ts';
import { openCluster, SUPERUSER } from './cluster.ts';
import { clearLeftover } from './leftover.ts';
import { startPostmaster, stopPostmaster } from './postmaster.ts';

export { PostgresError, type PostgresErrorCode } from './errors.ts';

/** What `pg` takes to connect. */
export interface DatabaseConnection {
  host: string;
  port: number;
  user: string;
  password: string;
  database: string;
}

export interface PostgresOptions {
  /** Made when missing, kept between starts. Holds `cluster/`, `password` (0600) and, where needed, a copy of the programs. */
  dataDir: string;
  /** On 127.0.0.1; 0 takes a free one. Default 0. */
  port?: number;
  /** Account that Postgres runs as when we are root. Default `nobody`; an existing cluster keeps its owner. */
  osUser?: string;
  /** For tests: nothing is synced to disk, so a power cut loses the data; the death of a process does not. Default false. */
  throwAway?: boolean;
  /** Until Postgres takes connections, recovery after a crash included. Default 60000. */
  startTimeoutMs?: number;
  /** Called with each line that Postgres logs. */
  log?: (line: string) => void;
}

export interface Postgres {
  /** As superuser, to the database `postgres`. */
  connection: DatabaseConnection;
  /** Of the postmaster. */
  pid: number;
  /** Settles when Postgres has ended, also when nobody asked for it. */
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** Fast shutdown. Safe to repeat. */
  stop(): Promise<void>;
}

/**
 * Starts a real Postgres of our own on loopback. Throws `PostgresError`. On Linux it ends with the thread that called this, however
 * that ends; elsewhere a process that is killed leaves it running until the next start on the folder.
 */
export async function startPostgres(options: PostgresOptions): Promise<Postgres> {
  const dataDir = resolve(options.dataDir);
  const clusterDir = join(dataDir, 'cluster');
  const throwAway = options.throwAway ?? false;
  await mkdir(dataDir, { recursive: true });
  const account = await chooseAccount(clusterDir, options.osUser ?? 'nobody');
  await chmod(dataDir, account ? 0o711 : 0o700);
  await assertReachable(account, dataDir);

  const binaries = await prepareBinaries(account, join(dataDir, `postgres-${MAJOR_VERSION}`));
  const cluster = await openCluster(dataDir, binaries, account, throwAway);
  await clearLeftover(clusterDir);
  const postmaster = await startPostmaster({
    postgres: binaries.postgres,
    clusterDir,
    account,
    port: options.port ?? 0,
    throwAway,
    startTimeoutMs: options.startTimeoutMs ?? 60_000,
    ...(options.log && { onLine: options.log }),
  });

  let stopping: Promise<void> | undefined;
  return {
    connection: {
      host: '127.0.0.1',
      port: postmaster.port,
      user: SUPERUSER,
      password: cluster.password,
      database: 'postgres',
    },
    pid: postmaster.process.pid!,
    exited: postmaster.ended,
    stop: () => {
      stopping ??= stopPostmaster(postmaster);
      return stopping;
    },
  };
}
