import { closeSync, constants, openSync, readlinkSync, type Stats, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { Fault } from '../fault.ts';
import { O_PATH } from '../files/beneath.ts';
import type { Owner } from './side.ts';

/** An open directory, under a name that leads to it whatever becomes of its path. */
export interface Folder extends Disposable {
  readonly path: string;
}

/**
 * The directory that a process of the user is to start in. It changes to it before it becomes the user, when nothing is closed
 * to it yet; so the agent asks in the user's place, and of the directory itself rather than of a path that may be swapped.
 */
export function openFolder(cwd: string, user: Owner | undefined): Folder {
  const fd = openDirectory(cwd);
  const path = `/proc/self/fd/${fd}`;
  try {
    if (user !== undefined && !mayReach(readlinkSync(path), user)) {
      throw new Fault('cwd_not_found', `"${cwd}" is closed to user code`, { field: 'cwd' });
    }
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return { path, [Symbol.dispose]: () => closeSync(fd) };
}

function openDirectory(cwd: string): number {
  try {
    return openSync(cwd, O_PATH | constants.O_DIRECTORY);
  } catch (cause) {
    throw new Fault('cwd_not_found', `"${cwd}" is not a directory`, { field: 'cwd', cause });
  }
}

/** Whether the user may enter this directory and each one above it. `path` leads through no symlink. */
function mayReach(path: string, user: Owner): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined || !mayEnter(stat, user)) return false;
  return path === '/' || mayReach(dirname(path), user);
}

function mayEnter({ mode, uid, gid }: Stats, user: Owner): boolean {
  const bit = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
  return (mode & bit) !== 0;
}
