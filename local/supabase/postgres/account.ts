import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { PostgresError } from './errors.ts';

const run = promisify(execFile);

/** The operating system's account that Postgres runs as; `undefined`: as ourselves. */
export interface Account {
  uid: number;
  gid: number;
}

/**
 * Postgres refuses to run as root, so root has to lend it another account: the owner of an existing cluster, else `osUser`.
 * The account needs an entry in the user database, because `initdb` looks itself up.
 */
export async function chooseAccount(clusterDir: string, osUser: string): Promise<Account | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const owner = await stat(clusterDir).catch(() => undefined);
  if (owner !== undefined && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid };
  const [uid, gid] = await Promise.all([idOf('-u', osUser), idOf('-g', osUser)]);
  if (uid === 0) throw new PostgresError('init_failed', 'osUser is root, which Postgres refuses to run as');
  return { uid, gid };
}

async function idOf(flag: '-u' | '-g', osUser: string): Promise<number> {
  try {
    const { stdout } = await run('id', [flag, '--', osUser], { timeout: 10_000 });
    return Number(stdout);
  } catch (cause) {
    throw new PostgresError(
      'init_failed',
      `we run as root and need another account for Postgres, but osUser ${JSON.stringify(osUser)} is not one`,
      { cause },
    );
  }
}

/** Asked of the kernel, as that account, because access lists and mount options count as well as modes. */
export async function canUse(
  account: Account | undefined,
  flag: '-r' | '-x',
  path: string,
): Promise<boolean> {
  return run('test', [flag, path], { ...account, cwd: '/', timeout: 10_000 }).then(
    () => true,
    () => false,
  );
}

/** Throws `folder_unreachable`, naming the folder on the way that is closed to the account. */
export async function assertReachable(account: Account | undefined, dir: string): Promise<void> {
  if (await canUse(account, '-x', dir)) return;
  let closed = dir;
  while (closed !== dirname(closed) && !(await canUse(account, '-x', dirname(closed))))
    closed = dirname(closed);
  throw new PostgresError(
    'folder_unreachable',
    `Postgres can't keep its data in ${dir}: uid ${account?.uid ?? process.getuid?.()}, which it runs as, can't enter ${closed}. ` +
      `Choose another folder, or open that one with: chmod o+x ${closed}`,
  );
}
