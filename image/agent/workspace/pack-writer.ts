import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createZstdCompress } from 'node:zlib';
import { pack } from 'tar-stream';
import type { PackObject } from '../../../controller/agents/wire.ts';

/** Uncompressed bytes after which a new pack is begun: compressed it stays below the smallest plan's 50 MB for an object. */
const PACK_BYTES = 32 << 20;

interface OpenPack {
  tar: ReturnType<typeof pack>;
  bytes: number;
  done: Promise<PackObject>;
}

/** Writes blobs into packs, zstd-compressed tar files that end up in `dir` under the name of their own hash. */
export class PackWriter {
  readonly #dir: string;
  readonly #packs: PackObject[] = [];
  #current: OpenPack | undefined;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Adds a blob of exactly `bytes` bytes and answers the index of the pack it went into. */
  async add(sha256: string, bytes: number, content: AsyncIterable<Buffer> | Buffer): Promise<number> {
    if (this.#current !== undefined && this.#current.bytes + bytes > PACK_BYTES) await this.#close();
    this.#current ??= this.#open();
    const { tar } = this.#current;
    this.#current.bytes += bytes;
    const header = { name: sha256, size: bytes, mode: 0o644, mtime: new Date(0) };
    await new Promise<void>((resolve, reject) => {
      const taken = (error?: Error | null) => (error ? reject(error) : resolve());
      if (Buffer.isBuffer(content)) tar.entry(header, content, taken);
      else feed(tar.entry(header, taken), content).catch(reject);
    });
    return this.#packs.length;
  }

  async finish(): Promise<PackObject[]> {
    await this.#close();
    return this.#packs;
  }

  /** Ends what is under way; the files written so far are the caller's to remove. */
  async abandon(): Promise<void> {
    this.#current?.tar.destroy(new Error('abandoned'));
    await this.#current?.done.catch(() => {});
  }

  #open(): OpenPack {
    const tar = pack();
    const done = this.#store(tar as unknown as AsyncIterable<Buffer>);
    done.catch(() => {});
    return { tar, bytes: 0, done };
  }

  async #close(): Promise<void> {
    if (this.#current === undefined) return;
    this.#current.tar.finalize();
    this.#packs.push(await this.#current.done);
    this.#current = undefined;
  }

  async #store(tar: AsyncIterable<Buffer>): Promise<PackObject> {
    const temporary = join(this.#dir, `writing-${this.#packs.length}`);
    const sum = createHash('sha256');
    let bytes = 0;
    const measured = async function* (source: AsyncIterable<Buffer>) {
      for await (const piece of source) {
        sum.update(piece);
        bytes += piece.length;
        yield piece;
      }
    };
    await pipeline(tar, createZstdCompress(), measured, createWriteStream(temporary, { mode: 0o600 }));
    const sha256 = sum.digest('hex');
    await rename(temporary, join(this.#dir, sha256));
    return { sha256, bytes };
  }
}

async function feed(entry: NodeJS.WritableStream, content: AsyncIterable<Buffer>): Promise<void> {
  for await (const piece of content) {
    if (!entry.write(Buffer.from(piece))) await once(entry, 'drain');
  }
  entry.end();
}
