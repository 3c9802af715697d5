import { createReadStream, createWriteStream } from 'node:fs';
import { chmod, lstat, mkdir, readdir, readFile, readlink, symlink, unlink } from 'node:fs/promises';
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

export function putTree(...args: Parameters<typeof put>): Promise<TreeSummary> {
  return put(...args).catch((error) => explain(error, args[3]));
}

export function getTree(...args: Parameters<typeof get>): Promise<TreeSummary> {
  return get(...args).catch((error) => explain(error, args[3]));
}

/** What is not of the SDK's is of this computer's files, or of the caller's own signal. */
function explain(cause: unknown, { signal }: TreeOptions): never {
  if (cause instanceof MobVibeError) throw cause;
  if (signal?.aborted)
    throw new MobVibeError('aborted', 'unknown', 'Copying a folder was given up by its caller', { cause });
  throw new MobVibeError('local_file', 'mistake', (cause as Error).message, { cause });
}

async function put(
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

async function get(
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
  await makeFolders(localDir, [
    ...directories.map(({ path }) => path),
    ...[...regular, ...links].map(({ path }) => posix.dirname(path)),
  ]);
  await inParallel(regular, options, async ({ path, mode, size }) => {
    const local = join(localDir, path);
    const content = await files.readStream(posix.join(remoteDir, path), call);
    // Replaced, not written over: what is there may be a link, or read-only.
    await unlinkAny(local);
    await pipeline(content, createWriteStream(local, { flags: 'wx' }));
    await chmod(local, mode & PERMISSIONS);
    options.onFile?.(path, size);
  });
  // Links come last: a sandbox could otherwise have a file written through one, to any place of this computer.
  for (const { path, target } of links) {
    await unlinkAny(join(localDir, path));
    await symlink(target!, join(localDir, path));
  }
  for (const { path, mode } of directories.reverse()) await chmod(join(localDir, path), mode & PERMISSIONS);
  return summary(entries);
}

/** Nobody gets a set-uid file out of a sandbox. */
const PERMISSIONS = 0o777;

/** Removes a file or a link, where there is one. (`rm` looks through a link to a folder.) */
async function unlinkAny(path: string): Promise<void> {
  await unlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
}

/** Makes folders below `root`, never through a link: an earlier copy may have brought one that leads elsewhere. */
async function makeFolders(root: string, paths: string[]): Promise<void> {
  const made = new Set(['.']);
  const make = async (path: string): Promise<void> => {
    if (made.has(path)) return;
    await make(posix.dirname(path));
    const local = join(root, path);
    await mkdir(local).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
      if ((await lstat(local)).isDirectory()) return;
      throw new MobVibeError(
        'local_file',
        'mistake',
        `${local} is not a folder: nothing is written through it`,
      );
    });
    made.add(path);
  };
  for (const path of paths) await make(path);
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
  await visit('');
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
