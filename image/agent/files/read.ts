import { constants, type Stats } from 'node:fs';
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
    // O_NOFOLLOW says so of a symlink: it was put there after the path had been resolved.
    throw error.code === 'ELOOP'
      ? new Fault('path_outside', `"${path}" became a symlink`, { field: 'path' })
      : error;
  });
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new Fault('not_a_file', `"${path}" is not a regular file`, { field: 'path' });
    if (stat.nlink > 1 && stat.uid !== uid) {
      throw new Fault('path_outside', `"${path}" is a hard link to a file of someone else`, {
        field: 'path',
      });
    }
    return { handle, stat, [Symbol.asyncDispose]: () => handle.close() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}
