import { randomBytes } from 'node:crypto';
import { constants, lstatSync, renameSync, rmSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { FileStat } from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';
import type { Owner } from '../user/side.ts';
import type { Place } from './beneath.ts';
import { OWN_NAME } from './own.ts';
import { toFileStat } from './stat.ts';

const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
const DEFAULT_MODE = 0o644;
const BATCH_BYTES = 512 << 10;

export interface WriteOptions {
  /** Permission bits. Default: those of the file that is replaced, else 0644. */
  mode: number | undefined;
  owner: Owner | undefined;
  /** Puts the file in place, by a call of `put`, or throws where that must not be after all. */
  commit: (put: () => void) => Promise<void>;
}

/**
 * Writes a body, which throws where it is cut off, to a new file and puts it in place at once: a reader sees the old content or the
 * new, never a part. Not synced to the disk, which does not outlive its machine: what is to last is saved elsewhere.
 */
export async function writeFile(
  place: Place,
  body: AsyncIterable<Buffer>,
  options: WriteOptions,
): Promise<FileStat> {
  const present = lstatSync(place.at, { throwIfNoEntry: false });
  if (present !== undefined && !present.isFile() && !present.isSymbolicLink()) {
    throw new Fault('not_a_file', `"${place.path}" is not a regular file`, { field: 'path' });
  }
  const mode = options.mode ?? (present?.isFile() ? present.mode & 0o7777 : DEFAULT_MODE);
  const temporary = `${place.parent}/${OWN_NAME}.${randomBytes(8).toString('hex')}`;
  const handle = await open(temporary, CREATE, 0o600);
  try {
    await copy(body, handle);
    if (options.owner !== undefined) await handle.chown(options.owner.uid, options.owner.gid);
    await handle.chmod(mode);
    const stat = await handle.stat();
    await options.commit(() => renameSync(temporary, place.at));
    return toFileStat(stat, place.path);
  } catch (error) {
    rmSync(temporary, { force: true }); // User code may have been first.
    throw error;
  } finally {
    await handle.close();
  }
}

async function copy(body: AsyncIterable<Buffer>, handle: FileHandle): Promise<void> {
  let written = 0;
  let batch: Buffer[] = [];
  let batched = 0;
  const flush = async () => {
    const parts = batch;
    batch = [];
    batched = 0;
    for (let rest = parts; rest.length > 0; ) {
      const { bytesWritten } = await handle.writev(rest, written);
      written += bytesWritten;
      rest = remaining(rest, bytesWritten);
    }
  };
  for await (const part of body) {
    batch.push(part);
    batched += part.length;
    if (batched >= BATCH_BYTES) await flush();
  }
  await flush();
}

/** A full disk takes a part of a write before it refuses the next one. */
function remaining(parts: Buffer[], written: number): Buffer[] {
  let skip = written;
  const rest: Buffer[] = [];
  for (const part of parts) {
    if (skip < part.length) rest.push(part.subarray(skip));
    skip = Math.max(0, skip - part.length);
  }
  return rest;
}
