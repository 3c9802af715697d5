import { randomBytes } from 'node:crypto';
import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DatabaseConnection } from './postgres/index.ts';

export interface ProjectKeys {
  /** `sb_secret_…`: may do what `service_role` may. */
  secretKey: string;
  /** `sb_publishable_…`: may do what `anon` may. */
  publishableKey: string;
  /** Signs the tokens of signed URLs; never leaves the gateway. */
  jwtSecret: string;
}

/** The file that holds the secret key and nothing else. */
export function secretKeyFile(stateDir: string): string {
  return join(stateDir, 'keys', 'secret');
}

/** The file that holds the connection string of the database and nothing else. */
export function dbUrlFile(stateDir: string): string {
  return join(stateDir, 'keys', 'db-url');
}

/** Written anew at each start: the port may be another. */
export async function keepDbUrl(stateDir: string, connection: DatabaseConnection): Promise<void> {
  await writeFile(dbUrlFile(stateDir), `${dbUrlOf(connection)}\n`, { mode: 0o600 });
}

export function dbUrlOf({ user, password, host, port, database }: DatabaseConnection): string {
  return `postgresql://${user}:${encodeURIComponent(password)}@${host}:${port}/${database}`;
}

/** Made once for a state directory, random, each in a file of its own that only its owner may read. */
export async function projectKeys(stateDir: string): Promise<ProjectKeys> {
  const dir = join(stateDir, 'keys');
  await mkdir(dir, { recursive: true, mode: 0o700 });
  return {
    secretKey: await keep(secretKeyFile(stateDir), () => `sb_secret_${random()}`),
    publishableKey: await keep(join(dir, 'publishable'), () => `sb_publishable_${random()}`),
    jwtSecret: await keep(join(dir, 'jwt'), random),
  };
}

/** What the file holds; when there is none yet, it appears whole, and two at once agree on one. */
async function keep(file: string, make: () => string): Promise<string> {
  const existing = await readFile(file, 'utf8').catch(() => undefined);
  if (existing) return existing.trim();
  const temporary = `${file}.${random()}`;
  await writeFile(temporary, `${make()}\n`, { mode: 0o600, flag: 'wx' });
  await link(temporary, file).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  await rm(temporary);
  return (await readFile(file, 'utf8')).trim();
}

function random(): string {
  return randomBytes(24).toString('base64url');
}
