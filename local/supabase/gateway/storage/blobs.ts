import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, link, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { tooLarge } from './errors.ts';

/** The bytes of one version of an object, complete and on disk. */
export interface StoredBytes {
  /** Names the file; a version's bytes never change. */
  version: string;
  size: number;
  /** MD5 in hex: the `etag`. */
  md5: string;
}

/** Files named by version, never by key: what a caller chooses never becomes part of a path. */
export interface BlobStore {
  /** Streams to disk with bounded memory. All or nothing: a stream that breaks or is too long leaves nothing. */
  write(bytes: Readable, maxBytes: number): Promise<StoredBytes>;
  /** A second version with the same bytes. `undefined`: there is no such version (any more). */
  copy(version: string): Promise<string | undefined>;
  /** `undefined`: there is no such version (any more). `end` is inclusive. */
  read(version: string, start: number, end: number): Promise<Readable | undefined>;
  remove(versions: string[]): Promise<void>;
  /** Removes what a crash left behind: half an upload, versions that no object has. */
  sweep(known: ReadonlySet<string>): Promise<void>;
}

/** Appended to in pieces of this size: fewer, larger writes. */
const WRITE_BYTES = 1024 * 1024;

export async function openBlobStore(dir: string): Promise<BlobStore> {
  const incoming = join(dir, 'incoming');
  const versions = join(dir, 'versions');
  await mkdir(incoming, { recursive: true, mode: 0o700 });
  await mkdir(versions, { recursive: true, mode: 0o700 });
  const path = (version: string) => join(versions, version);

  return {
    async write(bytes, maxBytes) {
      const version = randomUUID();
      const temporary = join(incoming, version);
      try {
        const { size, md5 } = await writeDurably(temporary, bytes, maxBytes);
        await rename(temporary, path(version));
        await syncDirectory(versions);
        return { version, size, md5 };
      } catch (error) {
        await rm(temporary, { force: true });
        throw error;
      }
    },
    async copy(version) {
      const twin = randomUUID();
      try {
        await link(path(version), path(twin));
      } catch (error) {
        if (isMissing(error)) return undefined;
        throw error;
      }
      await syncDirectory(versions);
      return twin;
    },
    async read(version, start, end) {
      let handle: FileHandle;
      try {
        handle = await open(path(version), 'r');
      } catch (error) {
        if (isMissing(error)) return undefined;
        throw error;
      }
      return createReadStream('', { fd: handle, start, end, highWaterMark: 256 * 1024 });
    },
    async remove(gone) {
      await Promise.all(gone.map((version) => rm(path(version), { force: true })));
    },
    async sweep(known) {
      await rm(incoming, { recursive: true, force: true });
      await mkdir(incoming, { mode: 0o700 });
      const orphans = (await readdir(versions)).filter((version) => !known.has(version));
      await Promise.all(orphans.map((version) => rm(path(version), { force: true })));
    },
  };
}

async function writeDurably(
  file: string,
  bytes: Readable,
  maxBytes: number,
): Promise<{ size: number; md5: string }> {
  const handle = await open(file, 'wx', 0o600);
  try {
    const hash = createHash('md5');
    let size = 0;
    let pending: Buffer[] = [];
    let pendingBytes = 0;
    // One write under way while the next piece is received and hashed.
    let writing: Promise<unknown> = Promise.resolve();
    const flush = async () => {
      await writing;
      writing = writeAll(handle, pending);
      writing.catch(() => {}); // Awaited at the next flush.
      pending = [];
      pendingBytes = 0;
    };
    // Not destroyed here when it is too long: the caller's answer goes out on the same connection.
    for await (const chunk of bytes.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > maxBytes) throw tooLarge();
      hash.update(chunk);
      pending.push(chunk);
      pendingBytes += chunk.length;
      if (pendingBytes >= WRITE_BYTES) await flush();
    }
    await flush();
    await writing;
    await handle.sync();
    return { size, md5: hash.digest('hex') };
  } finally {
    await handle.close();
  }
}

async function writeAll(handle: FileHandle, chunks: Buffer[]): Promise<void> {
  const total = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const { bytesWritten } = await handle.writev(chunks);
  if (bytesWritten < total) {
    const rest = Buffer.concat(chunks).subarray(bytesWritten);
    await handle.writeFile(rest);
  }
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}

async function syncDirectory(dir: string): Promise<void> {
  const handle = await open(dir, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
