import { createReadStream, createWriteStream } from 'node:fs';
import { chmod, lstat, mkdir, readdir, readFile, readlink, symlink } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { MobVibeError } from './errors.ts';
import type { Files } from './files.ts';

export interface TreeOptions {
  /** Files moved at once. Default 16. */
  concurrency?: number;
  /** Leaves out whatever this says true to; gets the path relative to the folder. A folder is left out with all below it. */
  ignore?: (path: string) => boolean;
  signal?: AbortSignal;
  /** Called after each file. */
  onFile?: (path: string, bytes: number) => void;
}

export interface TreeSummary {
  files: number;
  directories: number;
  symlinks: number;
  bytes: number;
}

interface Entry {
  /** Relative to the folder, with `/` between. */
  path: string;
  type: 'file' | 'directory' | 'symlink';
  size: number;
  mode: number;
  target?: string;
}

/** Files up to this size are read whole, so that they can be sent again when the connection breaks. */
const WHOLE_BYTES = 1024 * 1024;

export async function putTree(
  files: Files,
  localDir: string,
  remoteDir: string,
  options: TreeOptions,
): Promise<TreeSummary> {
  const entries = await walk(localDir, options.ignore);
  const call = options.signal === undefined ? {} : { signal: options.signal };
  const remote = (path: string) => posix.join(remoteDir, path);
  const { directories, regular, links } = byType(entries);
  const withContent = new Set(entries.map((entry) => posix.dirname(entry.path)));
  const empty = directories.filter((entry) => !withContent.has(entry.path));
  await inParallel(empty, options, (entry) => files.mkdir(remote(entry.path), call));
  await inParallel(regular, options, async (entry) => {
    const local = join(localDir, entry.path);
    const content = entry.size <= WHOLE_BYTES ? await readFile(local) : createReadStream(local);
    await files.write(remote(entry.path), content, { mode: entry.mode, ...call });
    options.onFile?.(entry.path, entry.size);
  });
  await inParallel(links, options, (entry) => putLink(files, remote(entry.path), entry.target!, call));
  return summary(entries);
}

async function putLink(
  files: Files,
  path: string,
  target: string,
  call: { signal?: AbortSignal },
): Promise<void> {
  try {
    await files.symlink(path, target, call);
  } catch (error) {
    if (!(error instanceof MobVibeError) || error.code !== 'file_exists') throw error;
    const there = await files.stat(path, call);
    if (there.type === 'symlink' && there.target === target) return;
    await files.remove(path, call);
    await files.symlink(path, target, call);
  }
}

export async function getTree(
  files: Files,
  remoteDir: string,
  localDir: string,
  options: TreeOptions,
): Promise<TreeSummary> {
  const call = options.signal === undefined ? {} : { signal: options.signal };
  const stats = await files.list(remoteDir, { recursive: true, ...call });
  const base = posix
    .normalize(remoteDir)
    .replace(/^\/workspace(\/|$)/, '')
    .replace(/^\.?\/?$/, '');
  const entries: Entry[] = [];
  const ignored: string[] = [];
  for (const { type, size, mode, target, path: full } of stats) {
    const path = base === '' ? full : posix.relative(base, full);
    if (type === 'other' || path === '') continue;
    refuseOutside(path);
    if (ignored.some((dir) => path.startsWith(dir))) continue;
    if (options.ignore?.(path)) ignored.push(`${path}/`);
    else entries.push({ path, type, size, mode, ...(target === undefined ? {} : { target }) });
  }
  const { directories, regular, links } = byType(entries);
  await mkdir(localDir, { recursive: true });
  for (const { path } of directories) await mkdir(join(localDir, path), { recursive: true });
  await inParallel(regular, options, async ({ path, mode, size }) => {
    const local = join(localDir, path);
    const content = await files.readStream(posix.join(remoteDir, path), call);
    await pipeline(content, createWriteStream(local));
    await chmod(local, mode);
    options.onFile?.(path, size);
  });
  // Links come last: a sandbox could otherwise have a file written through one, to any place of this computer.
  for (const { path, target } of links) await symlink(target!, join(localDir, path));
  for (const { path, mode } of directories.reverse()) await chmod(join(localDir, path), mode);
  return summary(entries);
}

/** The sandbox is not trusted: a name it gives must not lead out of the folder that was asked for. */
function refuseOutside(path: string): void {
  if (path.startsWith('/') || path.split('/').includes('..')) {
    throw new MobVibeError(
      'invalid_answer',
      'unknown',
      `The sandbox listed a path outside: ${JSON.stringify(path)}`,
    );
  }
}

async function walk(root: string, ignore: TreeOptions['ignore']): Promise<Entry[]> {
  const entries: Entry[] = [];
  const visit = async (dir: string): Promise<void> => {
    for (const name of (await readdir(join(root, dir))).sort()) {
      const path = posix.join(dir, name);
      if (ignore?.(path)) continue;
      const local = join(root, path);
      const { mode, size, ...stats } = await statOf(local);
      const entry = { path, size, mode: mode & 0o7777 };
      if (stats.isDirectory) {
        entries.push({ ...entry, type: 'directory', size: 0 });
        await visit(path);
      } else if (stats.isSymbolicLink) {
        entries.push({ ...entry, type: 'symlink', size: 0, target: await readlink(local) });
      } else if (stats.isFile) {
        entries.push({ ...entry, type: 'file' });
      }
    }
  };
  try {
    await visit('');
  } catch (cause) {
    throw new MobVibeError('local_file', 'mistake', `${root} can't be read: ${(cause as Error).message}`, {
      cause,
    });
  }
  return entries;
}

async function statOf(path: string) {
  const stats = await lstat(path);
  return {
    mode: stats.mode,
    size: stats.size,
    isDirectory: stats.isDirectory(),
    isFile: stats.isFile(),
    isSymbolicLink: stats.isSymbolicLink(),
  };
}

function byType(entries: Entry[]) {
  const of = (type: Entry['type']) => entries.filter((entry) => entry.type === type);
  return { directories: of('directory'), regular: of('file'), links: of('symlink') };
}

function summary(entries: Entry[]): TreeSummary {
  const { directories, regular, links } = byType(entries);
  return {
    files: regular.length,
    directories: directories.length,
    symlinks: links.length,
    bytes: regular.reduce((sum, entry) => sum + entry.size, 0),
  };
}

/** Runs `work` on every item, some at a time; the first failure stops the taking of new ones. */
async function inParallel<T>(
  items: T[],
  { concurrency = 16, signal }: TreeOptions,
  work: (item: T) => Promise<unknown>,
): Promise<void> {
  const queue = items.values();
  let failed = false;
  const worker = async () => {
    for (const item of queue) {
      if (failed) return;
      signal?.throwIfAborted();
      try {
        await work(item);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, worker));
}
