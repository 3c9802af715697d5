import {
  closeSync,
  constants,
  fchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmdirSync,
  unlinkSync,
} from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import type { Owner } from '../user/side.ts';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
const YIELD_EVERY = 256;
/** A call goes no deeper on the stack than so many directories: it is user code that says how deep they are. */
const STACK_LEVELS = 64;

/** Makes a directory that belongs to the user. One that is there already will do. */
export function makeDirectory(at: string, owner: Owner | undefined): void {
  try {
    mkdirSync(at, 0o755);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return;
    throw error;
  }
  if (owner === undefined) return;
  const fd = openSync(at, DIRECTORY);
  try {
    fchownSync(fd, owner.uid, owner.gid);
  } finally {
    closeSync(fd);
  }
}

export function removeOne(at: string): void {
  if (lstatSync(at).isDirectory()) rmdirSync(at);
  else unlinkSync(at);
}

/** Removes what is at the place and all below it, through open directories only. */
export async function removeTree(at: string): Promise<void> {
  let removed = 0;
  const remove = async (place: string, depth: number): Promise<void> => {
    if (depth % STACK_LEVELS === 0) await setImmediate();
    if (lstatSync(place).isDirectory()) {
      await empty(place, depth + 1);
      rmdirSync(place);
    } else {
      unlinkSync(place);
    }
    removed += 1;
    // A large tree must not keep everyone else waiting.
    if (removed % YIELD_EVERY === 0) await setImmediate();
  };
  const empty = async (place: string, depth: number): Promise<void> => {
    const fd = openSync(place, DIRECTORY);
    try {
      for (const name of readdirSync(`/proc/self/fd/${fd}`))
        await remove(`/proc/self/fd/${fd}/${name}`, depth);
    } finally {
      closeSync(fd);
    }
  };
  await remove(at, 1);
}
