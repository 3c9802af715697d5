import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Client } from 'pg';
import type { DatabaseConnection } from './index.ts';
import { withExclusiveClient } from './session.ts';

/**
 * Makes a bare database look like a new Supabase project (`bootstrap.sql`). Answers how to connect as `authenticator`, the role without
 * any rights that an API server uses and from which it changes to anon, authenticated or service_role. Its password is new each time,
 * so servers that connected before can't connect again.
 */
export async function bootstrap(connection: DatabaseConnection): Promise<DatabaseConnection> {
  const sql = await readFile(new URL('./bootstrap.sql', import.meta.url), 'utf8');
  const password = randomBytes(24).toString('base64url');
  await withExclusiveClient(connection, async (client: Client) => {
    await client.query(`begin; ${sql}; commit`);
    await client.query(`alter role authenticator password ${client.escapeLiteral(password)}`);
  });
  return { ...connection, user: 'authenticator', password };
}
