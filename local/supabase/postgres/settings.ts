import { clusterName } from './leftover.ts';

export interface ServerSettings {
  port: number;
  /** Fast instead of safe: nothing is synced to disk. */
  throwAway: boolean;
}

/** The command line options of `postgres`. What is not named here has Postgres's own default. */
export function serverOptions({ port, throwAway }: ServerSettings): string[] {
  const values: Record<string, string | number> = {
    cluster_name: clusterName(process.pid),
    listen_addresses: '127.0.0.1',
    port,
    unix_socket_directories: '',
    max_connections: 100,
    shared_buffers: '64MB',
    // Nothing replicates from here; less is written this way.
    wal_level: 'minimal',
    max_wal_senders: 0,
    max_wal_size: '256MB',
    jit: 'off',
    timezone: 'UTC',
    log_timezone: 'UTC',
    // Statements can hold users' data and keys: the log gets the error, not the statement.
    log_min_error_statement: 'panic',
    log_checkpoints: 'off',
  };
  // Commits still reach the kernel, so killing Postgres loses nothing that it had confirmed; a power cut does.
  if (throwAway) Object.assign(values, { fsync: 'off', full_page_writes: 'off' });
  return Object.entries(values).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
}
