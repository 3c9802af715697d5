import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createZstdCompress } from 'node:zlib';
import { type Pack, pack } from 'tar-stream';
import type { PackObject } from '../../../controller/agents/wire.ts';

/**
 * No object has more, however large a file is: it stays below the 50 MB that the smallest plan takes (Supabase docs, "File limits"), and a
 * restore can hold it in memory.
 */
export const MOST_OBJECT_BYTES = 32 << 20;

interface OpenPack {
  tar: Pack;
  stored: Promise<PackObject[]>;
}

/** Writes blobs into a pack: a zstd-compressed tar, cut into objects that end up in `dir` under the names of their own hashes. */
export class PackWriter {
  readonly #dir: string;
  readonly #objectBytes: number;
  #pack: OpenPack | undefined;

  constructor(dir: string, objectBytes = MOST_OBJECT_BYTES) {
    this.#dir = dir;
    this.#objectBytes = objectBytes;
  }

  /** Adds a blob of exactly `bytes` bytes. */
  async add(sha256: string, bytes: number, content: AsyncIterable<Buffer> | Buffer): Promise<void> {
    this.#pack ??= this.#open();
    const { tar, stored } = this.#pack;
    const header = { name: sha256, size: bytes, mode: 0o644, mtime: new Date(0) };
    const taken = new Promise<void>((resolve, reject) => {
      const entry = tar.entry(header, (error) => (error ? reject(error) : resolve()));
      // Without a listener it would end the agent.
      entry.on('error', () => {});
      feed(entry, content).catch((error) => entry.destroy(error));
    });
    // Whatever goes wrong, a full disk say, breaks the whole pack, and `stored` knows the cause.
    await Promise.race([stored, taken.catch(() => stored)]);
  }

  /** The objects of the pack, in order; none when there was no blob. */
  async finish(): Promise<PackObject[]> {
    this.#pack?.tar.finalize();
    return (await this.#pack?.stored) ?? [];
  }

  /** Ends what is under way; the files written so far are the caller's to remove. */
  async abandon(): Promise<void> {
    this.#pack?.tar.destroy(new Error('abandoned'));
    await this.#pack?.stored.catch(() => {});
  }

  #open(): OpenPack {
    const tar = pack();
    const stored = pipeline(tar as unknown as AsyncIterable<Buffer>, createZstdCompress(), (packed) =>
      this.#store(packed),
    );
    stored.catch(() => {});
    return { tar, stored };
  }

  async #store(packed: AsyncIterable<Buffer>): Promise<PackObject[]> {
    const objects: PackObject[] = [];
    const temporary = join(this.#dir, 'writing');
    const pieces = packed[Symbol.asyncIterator]();
    let rest = await more(pieces);
    while (rest !== undefined) {
      await using file = await open(temporary, 'w', 0o600);
      const sum = createHash('sha256');
      let bytes = 0;
      while (rest !== undefined && bytes < this.#objectBytes) {
        const part: Buffer = rest.subarray(0, this.#objectBytes - bytes);
        sum.update(part);
        await file.writeFile(part);
        bytes += part.length;
        rest = part.length < rest.length ? rest.subarray(part.length) : await more(pieces);
      }
      const sha256 = sum.digest('hex');
      await rename(temporary, join(this.#dir, sha256));
      objects.push({ sha256, bytes });
    }
    return objects;
  }
}

async function more(pieces: AsyncIterator<Buffer>): Promise<Buffer | undefined> {
  const next = await pieces.next();
  return next.done ? undefined : next.value;
}

async function feed(entry: NodeJS.WritableStream, content: AsyncIterable<Buffer> | Buffer): Promise<void> {
  const pieces = Buffer.isBuffer(content) ? [content] : content;
  // A piece is only valid until the next one is asked for.
  for await (const piece of pieces) if (!entry.write(Buffer.from(piece))) await once(entry, 'drain');
  entry.end();
}
