import { isUtf8 } from 'node:buffer';
import { closeSync, constants, lstatSync, openSync, readdirSync, readlinkSync, type Stats } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { NEVER_SAVED } from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';
import { type Beneath, MAX_PATH_BYTES } from '../files/beneath.ts';
import { isOwnName } from '../files/own.ts';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
const YIELD_EVERY = 256;
/** A larger one would not be saved in the time that a save has; a sparse one of any size is made in a moment. */
const MAX_FILE_BYTES = 4 * 2 ** 30;
const MOST_LEFT_OUT = 20;

export type Found =
  | FoundFile
  | { path: string; type: 'directory'; stat: Stats }
  | { path: string; type: 'symlink'; stat: Stats; target: string };

export interface FoundFile {
  path: string;
  type: 'file';
  stat: Stats;
}

export interface Walked {
  found: Found[];
  /** What should have been saved and can't be, with the reason: the first few. */
  leftOut: string[];
}

/** Everything in the tree that is saved. Sockets, FIFOs and devices aren't, nor are the names of `NEVER_SAVED`. */
export async function walk(tree: Beneath): Promise<Walked> {
  const found: Found[] = [];
  const leftOut: string[] = [];
  let looked = 0;
  const leaveOut = (path: string, why: string): void => {
    if (leftOut.length < MOST_LEFT_OUT) leftOut.push(`${path.slice(0, 200)}: ${why}`);
  };
  const enter = async (at: string, path: string): Promise<void> => {
    const fd = openSync(at, DIRECTORY);
    try {
      for (const bytes of readdirSync(`/proc/self/fd/${fd}`, { encoding: 'buffer' })) {
        const name = bytes.toString();
        const inner = path === '' ? name : `${path}/${name}`;
        if (isOwnName(name) || neverSaved(inner)) continue;
        looked += 1;
        // A large tree must not keep everyone else waiting.
        if (looked % YIELD_EVERY === 0) await setImmediate();
        if (!isUtf8(bytes)) leaveOut(inner, 'its name is not UTF-8');
        else if (Buffer.byteLength(inner) > MAX_PATH_BYTES) leaveOut(inner, 'its path is too long');
        else await look(`/proc/self/fd/${fd}/${name}`, inner).catch(unlessGone);
      }
    } finally {
      closeSync(fd);
    }
  };
  const look = async (at: string, path: string): Promise<void> => {
    const stat = lstatSync(at);
    if (stat.isSymbolicLink()) {
      const target = readlinkSync(at, { encoding: 'buffer' });
      if (isUtf8(target)) found.push({ path, type: 'symlink', stat, target: target.toString() });
      else leaveOut(path, 'its target is not UTF-8');
    } else if (stat.size > MAX_FILE_BYTES && stat.isFile()) {
      leaveOut(path, 'it is larger than 4 GiB');
    } else if (stat.isFile()) {
      found.push({ path, type: 'file', stat });
    } else if (stat.isDirectory()) {
      found.push({ path, type: 'directory', stat });
      await enter(at, path);
    }
  };
  using root = tree.find('');
  await enter(root.at, '');
  return { found, leftOut };
}

function neverSaved(path: string): boolean {
  return NEVER_SAVED.some((name) => path === name || path.endsWith(`/${name}`));
}

/** Whatever vanished or changed its kind while it was looked at is a change for the next save. */
export function unlessGone(error: NodeJS.ErrnoException): undefined {
  if (
    error.code === 'ENOENT' ||
    error.code === 'ENOTDIR' ||
    error.code === 'ELOOP' ||
    error.code === 'EINVAL'
  )
    return;
  throw error;
}

/** A file of someone else, or one that is no file any more, is not the user's to save. */
export function unlessReadable(error: unknown): undefined {
  if (error instanceof Fault && (error.code === 'path_outside' || error.code === 'not_a_file')) return;
  if ((error as NodeJS.ErrnoException).code === 'EACCES') return;
  return unlessGone(error as NodeJS.ErrnoException);
}
