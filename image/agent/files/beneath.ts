import { closeSync, constants, fstatSync, openSync, readlinkSync } from 'node:fs';
import { Fault } from '../fault.ts';

/** Linux only, the same on x86 and ARM: open without the right to read, and without effect on what is opened. */
export const O_PATH = 0o10000000;
const LOOK = O_PATH | constants.O_NOFOLLOW;
/** The kernel's 4096 less room for the name of the directory that a path is put behind. */
export const MAX_PATH_BYTES = 4000;
const MAX_LINKS = 40;

/** A name in an open directory: `at` names it to every system call, and no renamed or swapped parent can redirect it. */
export interface Place extends Disposable {
  /** e.g. `/proc/self/fd/20/index.ts`. A call that would follow a symlink here needs O_NOFOLLOW. */
  readonly at: string;
  /** The open directory, e.g. `/proc/self/fd/20`. */
  readonly parent: string;
  /** Relative to the root, through no symlink but perhaps the last part; `''` is the root. */
  readonly path: string;
}

export interface FindOptions {
  /** Follow a symlink in the last place, too. Default false. */
  follow?: boolean;
  /** Makes the directory at a place on the way where there is none. Default: its lack is ENOENT. */
  makeDirectory?: (at: string) => void;
}

/**
 * The tree below one directory. Paths are resolved here, one open directory after the other, never by the kernel in one go: a
 * symlink is followed only where it stays inside, and user code that swaps a directory for a link meanwhile gains nothing.
 */
export class Beneath {
  readonly root: string;
  readonly #rootFd: number;

  constructor(root: string) {
    this.root = root;
    this.#rootFd = openSync(root, constants.O_RDONLY | constants.O_DIRECTORY);
  }

  /** Finds where a path leads; the last part need not exist. Throws `invalid_path`, `path_outside` or an errno. */
  find(path: string, { follow = false, makeDirectory }: FindOptions = {}): Place {
    checkPath(path);
    const parents = [{ fd: this.#rootFd, name: '' }];
    const todo = this.#parts(path, path);
    // Refused as it is written, whatever exists: otherwise a write would first make the directories on the way.
    if (climbsOut(todo)) throw outside(path);
    let links = 0;
    try {
      for (let part = todo.shift(); part !== undefined; part = todo.shift()) {
        if (part === '..') {
          if (parents.length === 1) throw outside(path);
          closeSync(parents.pop()!.fd);
          continue;
        }
        const last = todo.length === 0;
        if (last && !follow) return place(parents, part);
        const at = `/proc/self/fd/${parents.at(-1)!.fd}/${part}`;
        const fd = look(at, last ? undefined : makeDirectory);
        if (fd === undefined) {
          if (last) return place(parents, part);
          throw errno('ENOENT');
        }
        const stat = fstatSync(fd);
        if (stat.isDirectory() && !last) {
          parents.push({ fd, name: part });
          continue;
        }
        closeSync(fd);
        if (!stat.isSymbolicLink()) {
          if (last) return place(parents, part);
          throw errno('ENOTDIR');
        }
        links += 1;
        if (links > MAX_LINKS) throw errno('ELOOP');
        const target = readlinkSync(at);
        todo.unshift(...this.#parts(target, path));
        if (target.startsWith('/')) for (const { fd } of parents.splice(1)) closeSync(fd);
      }
      const end = parents.length > 1 ? parents.pop()! : undefined;
      if (end !== undefined) closeSync(end.fd);
      return place(parents, end?.name ?? '');
    } catch (error) {
      for (const { fd } of parents.slice(1)) closeSync(fd);
      throw error;
    }
  }

  /** Splits a path given by a caller or read from a link; an absolute one must begin with the root. */
  #parts(path: string, asked: string): string[] {
    const { root } = this;
    if (path.startsWith('/') && path !== root && !path.startsWith(`${root}/`)) throw outside(asked);
    const relative = path.startsWith('/') ? path.slice(root.length) : path;
    return relative.split('/').filter((part) => part !== '' && part !== '.');
  }
}

/** Whether `..` leads above the beginning when every other part is taken for a directory. */
function climbsOut(parts: readonly string[]): boolean {
  let depth = 0;
  for (const part of parts) {
    depth += part === '..' ? -1 : 1;
    if (depth < 0) return true;
  }
  return false;
}

interface Parent {
  fd: number;
  name: string;
}

function look(at: string, makeDirectory: ((at: string) => void) | undefined): number | undefined {
  try {
    return openSync(at, LOOK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    if (makeDirectory === undefined) return undefined;
  }
  makeDirectory(at);
  return openSync(at, LOOK);
}

/** Keeps the last parent open and closes those above it. */
function place(parents: Parent[], name: string): Place {
  const [root, ...between] = parents as [Parent, ...Parent[]];
  const kept = between.at(-1);
  for (const { fd } of between.slice(0, -1)) closeSync(fd);
  const parent = `/proc/self/fd/${(kept ?? root).fd}`;
  return {
    parent,
    // The root itself has no name in a parent of ours; `.` spares it from being taken for a symlink.
    at: `${parent}/${name === '' ? '.' : name}`,
    path: [...between.map((each) => each.name), name].join('/'),
    [Symbol.dispose]: () => {
      if (kept !== undefined) closeSync(kept.fd);
    },
  };
}

function checkPath(path: string): void {
  if (path.includes('\0'))
    throw new Fault('invalid_path', 'The path holds a NUL character', { field: 'path' });
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new Fault('invalid_path', `The path has more than ${MAX_PATH_BYTES} bytes`, { field: 'path' });
  }
}

function outside(path: string): Fault {
  return new Fault('path_outside', `"${path}" leads out of the workspace`, { field: 'path' });
}

function errno(code: string): Error {
  return Object.assign(new Error(code), { code });
}
