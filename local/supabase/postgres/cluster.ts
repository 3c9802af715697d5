import { randomBytes } from 'node:crypto';
import { chown, link, mkdtemp, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Account } from './account.ts';
import { type Binaries, MAJOR_VERSION } from './binaries.ts';
import { PostgresError } from './errors.ts';
import { runToEnd } from './program.ts';

export const SUPERUSER = 'postgres';

export interface Cluster {
  dir: string;
  password: string;
}

/** Opens the cluster in `dataDir`, or makes it, whole or not at all: `initdb` works beside it and the result is renamed. */
export async function openCluster(
  dataDir: string,
  binaries: Binaries,
  account: Account | undefined,
  throwAway: boolean,
): Promise<Cluster> {
  const dir = join(dataDir, 'cluster');
  const passwordFile = join(dataDir, 'password');
  const version = await readFile(join(dir, 'PG_VERSION'), 'utf8').catch(() => undefined);
  if (version === undefined) {
    const password = await keepPassword(passwordFile);
    await makeCluster(dataDir, dir, password, binaries, account, throwAway);
    return { dir, password };
  }
  if (version.trim() !== MAJOR_VERSION) {
    throw new PostgresError(
      'folder_damaged',
      `${dir} holds data of Postgres ${version.trim()}, and this is Postgres ${MAJOR_VERSION}`,
    );
  }
  try {
    return { dir, password: await readFile(passwordFile, 'utf8') };
  } catch (cause) {
    throw new PostgresError('folder_damaged', `${passwordFile}, the password of ${dir}, can't be read`, {
      cause,
    });
  }
}

/** Two starts at once agree on one password: the first to link its file wins. */
async function keepPassword(file: string): Promise<string> {
  const own = `${file}.${process.pid}-${randomBytes(4).toString('hex')}`;
  await writeFile(own, randomBytes(24).toString('base64url'), { mode: 0o600, flag: 'wx' });
  await link(own, file).catch((error) => {
    if (error.code !== 'EEXIST') throw error;
  });
  await rm(own);
  return readFile(file, 'utf8');
}

async function makeCluster(
  dataDir: string,
  dir: string,
  password: string,
  binaries: Binaries,
  account: Account | undefined,
  throwAway: boolean,
): Promise<void> {
  const staging = await mkdtemp(join(dataDir, 'initdb-'));
  try {
    // `initdb` reads the password from a file only, as the account that it runs as.
    const passwordFile = join(staging, 'password');
    await writeFile(passwordFile, password, { mode: 0o600 });
    if (account) {
      await chown(passwordFile, account.uid, account.gid);
      await chown(staging, account.uid, account.gid);
    }
    const fresh = join(staging, 'cluster');
    const args = ['--pgdata', fresh, '--username', SUPERUSER, '--auth', 'scram-sha-256'];
    args.push('--pwfile', passwordFile, '--encoding', 'UTF8');
    // Collation by the server itself: the same order on every host, whatever locales it has.
    args.push('--locale', 'C', '--locale-provider', 'builtin', '--builtin-locale', 'C.UTF-8');
    if (throwAway) args.push('--no-sync');
    const { code, output } = await runToEnd(binaries.initdb, args, {
      account,
      cwd: staging,
      timeoutMs: 120_000,
    });
    if (code !== 0) {
      throw new PostgresError('init_failed', `initdb failed (${code}) for ${dir}:\n${output.join('\n')}`);
    }
    await rename(fresh, dir).catch((cause) => {
      if (cause.code !== 'ENOTEMPTY' && cause.code !== 'EEXIST') throw cause;
      throw new PostgresError('folder_in_use', `another process made ${dir} at the same time`, { cause });
    });
    if (!throwAway) await syncFolder(dataDir);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** Makes the new names in a folder survive a power cut. */
async function syncFolder(dir: string): Promise<void> {
  const handle = await open(dir, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
