import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { chmod, cp, lstat, readdir, readlink } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { pipeline } from 'node:stream/promises';

/** SHA-256 over the paths, modes and contents of a folder. */
export async function folderDigest(dir: string): Promise<string> {
  const hash = createHash('sha256');
  for (const path of await paths(dir)) {
    const stat = await lstat(path);
    hash.update(`${relative(dir, path)}\0${stat.mode.toString(8)}\0`);
    if (stat.isSymbolicLink()) hash.update(await readlink(path));
    if (stat.isFile()) await pipeline(createReadStream(path), hash, { end: false });
  }
  return `sha256:${hash.digest('hex')}`;
}

/**
 * A file or folder that every user of a machine can read: `source` itself, or a copy at `copy` where some of its modes
 * forbid that, as after a checkout with umask 077. To a machine's users, the host's files belong to somebody else.
 */
export async function readableByAll(source: string, copy: string): Promise<string> {
  const closed = async (path: string) => {
    const stat = await lstat(path);
    const needed = stat.isDirectory() || stat.mode & 0o100 ? 0o005 : 0o004;
    return !stat.isSymbolicLink() && (stat.mode & needed) !== needed;
  };
  const all = await paths(source);
  if (!(await Promise.all(all.map(closed))).includes(true)) return source;
  await cp(source, copy, { recursive: true, force: true, verbatimSymlinks: true });
  for (const path of await paths(copy)) {
    const stat = await lstat(path);
    if (stat.isSymbolicLink()) continue;
    await chmod(path, stat.isDirectory() || stat.mode & 0o100 ? 0o755 : 0o644);
  }
  return copy;
}

/** `path` and everything below it, in a fixed order. */
async function paths(path: string): Promise<string[]> {
  if (!(await lstat(path)).isDirectory()) return [path];
  const names = await readdir(path, { recursive: true });
  return [path, ...names.sort().map((name) => join(path, name))];
}
