import { closeSync, constants, lstatSync, openSync, readdirSync, readlinkSync, type Stats } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { NEVER_SAVED } from '../../../controller/agents/wire.ts';
import { type Beneath, MAX_PATH_BYTES } from '../files/beneath.ts';
import { isOwnName } from '../files/own.ts';
import { log } from '../log.ts';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
const YIELD_EVERY = 256;

export type Found =
  | { path: string; type: 'directory' | 'file'; stat: Stats }
  | { path: string; type: 'symlink'; target: string };

/**
 * Everything in the tree that is saved. Sockets, FIFOs and devices aren't, nor are the names of `NEVER_SAVED`, nor what lies so
 * deep that no path leads to it: it could not be restored, and nothing else of its version either.
 */
export async function walk(tree: Beneath): Promise<Found[]> {
  const found: Found[] = [];
  let looked = 0;
  const enter = async (at: string, path: string): Promise<void> => {
    const fd = openSync(at, DIRECTORY);
    try {
      for (const name of readdirSync(`/proc/self/fd/${fd}`)) {
        const inner = path === '' ? name : `${path}/${name}`;
        if (isOwnName(name) || neverSaved(inner)) continue;
        if (Buffer.byteLength(inner) > MAX_PATH_BYTES) {
          log('warn', 'not saved: the path is too long', { bytes: Buffer.byteLength(inner) });
          continue;
        }
        looked += 1;
        // A large tree must not keep everyone else waiting.
        if (looked % YIELD_EVERY === 0) await setImmediate();
        await look(`/proc/self/fd/${fd}/${name}`, inner).catch(unlessGone);
      }
    } finally {
      closeSync(fd);
    }
  };
  const look = async (at: string, path: string): Promise<void> => {
    const stat = lstatSync(at);
    if (stat.isSymbolicLink()) {
      found.push({ path, type: 'symlink', target: readlinkSync(at) });
    } else if (stat.isFile()) {
      found.push({ path, type: 'file', stat });
    } else if (stat.isDirectory()) {
      found.push({ path, type: 'directory', stat });
      await enter(at, path);
    }
  };
  using root = tree.find('');
  await enter(root.at, '');
  return found;
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
