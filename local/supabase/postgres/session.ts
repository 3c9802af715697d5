import { Client } from 'pg';
import type { DatabaseConnection } from './index.ts';

/** Any number, the same in all our versions: names the lock on a database's set-up. */
const SETUP_LOCK = 7_301_946;

/** Runs `work` on a connection that is the only one at this, in this database. Waits at most 60 s for others. */
export async function withExclusiveClient<T>(
  connection: DatabaseConnection,
  work: (client: Client) => Promise<T>,
): Promise<T> {
  const client = new Client({ ...connection, connectionTimeoutMillis: 10_000 });
  // An error on a broken connection is also given to the query that was running.
  client.on('error', () => {});
  await client.connect();
  try {
    await client.query(`set lock_timeout = '60s'; set statement_timeout = '60s'`);
    await client.query('select pg_advisory_lock($1)', [SETUP_LOCK]);
    return await work(client);
  } finally {
    // The lock goes with the connection.
    await client.end();
  }
}
