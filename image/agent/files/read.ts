import { closeSync, constants, fstatSync, openSync, type Stats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { Fault } from '../fault.ts';

/** O_NONBLOCK: a FIFO without a writer would otherwise be waited for. */
const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

export interface OpenFile extends AsyncDisposable {
  handle: FileHandle;
  stat: Stats;
}

/**
 * Opens a regular file for reading. One with further names that isn't `uid`'s own is refused: the agent may have rights that
 * user code lacks, and a hard link would lend them.
 */
export async function openFile(at: string, path: string, uid: number): Promise<OpenFile> {
  const handle = await open(at, READ).catch((error: NodeJS.ErrnoException) => {
    throw notOpened(error, path);
  });
  try {
    const stat = await handle.stat();
    checkOwn(stat, path, uid);
    return { handle, stat, [Symbol.asyncDispose]: () => handle.close() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** The same at once: for many small files, each of which is read in less time than a thread takes to be woken. */
export function openFileNow(at: string, path: string, uid: number): { fd: number; stat: Stats } & Disposable {
  const fd = openNow(at, path);
  try {
    const stat = fstatSync(fd);
    checkOwn(stat, path, uid);
    return { fd, stat, [Symbol.dispose]: () => closeSync(fd) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function openNow(at: string, path: string): number {
  try {
    return openSync(at, READ);
  } catch (error) {
    throw notOpened(error as NodeJS.ErrnoException, path);
  }
}

/** O_NOFOLLOW says ELOOP of a symlink: it was put there after the path had been resolved. */
function notOpened(error: NodeJS.ErrnoException, path: string): Error {
  return error.code === 'ELOOP'
    ? new Fault('path_outside', `"${path}" became a symlink`, { field: 'path' })
    : error;
}

function checkOwn(stat: Stats, path: string, uid: number): void {
  if (!stat.isFile()) throw new Fault('not_a_file', `"${path}" is not a regular file`, { field: 'path' });
  if (stat.nlink > 1 && stat.uid !== uid) {
    throw new Fault('path_outside', `"${path}" is a hard link to a file of someone else`, { field: 'path' });
  }
}
