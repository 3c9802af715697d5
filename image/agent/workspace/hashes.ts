import { createHash, hash } from 'node:crypto';
import { readFileSync, type Stats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import type { Beneath } from '../files/beneath.ts';
import { openFile, openFileNow } from '../files/read.ts';

/** Up to this size a file is read in one go. */
export const SMALL_BYTES = 4 << 20;
const PIECE_BYTES = 1 << 20;
/** A file changed so shortly before it was read may change again within the same tick of its time stamps. */
const SETTLED_MS = 100;

export const EMPTY_SHA256 = sha256(Buffer.alloc(0));

export function sha256(bytes: Uint8Array | string): string {
  return hash('sha256', bytes, 'hex');
}

/** What a file held when it was read: size and hash of the same bytes. */
export interface Content {
  size: number;
  sha256: string;
}

export function contentOf(bytes: Buffer): Content {
  return { size: bytes.length, sha256: sha256(bytes) };
}

/** Is given the bytes of a file while it is hashed. A piece is only valid until the call returns. */
export type Reader = (piece: Buffer) => void;

/** Contents of files, remembered while their size, times and inode stay the same. */
export class Hashes {
  #known = new Map<string, { key: string; content: Content }>();
  readonly #tree: Beneath;
  readonly #uid: number;
  readonly #now: () => number;

  constructor(tree: Beneath, uid: number, now: () => number) {
    this.#tree = tree;
    this.#uid = uid;
    this.#now = now;
  }

  /** What the file holds, where it was read before and has not changed since. */
  known(path: string, stat: Stats): Content | undefined {
    const known = this.#known.get(path);
    return known !== undefined && known.key === keyOf(stat) ? known.content : undefined;
  }

  /** Reads the file. Rejects with an errno or `path_outside` where it can't be read as the user's own. */
  async read(path: string, stat: Stats, each: Reader = () => {}): Promise<Content> {
    using place = this.#tree.find(path);
    if (stat.size > SMALL_BYTES) return this.#readLarge(place.at, path, each);
    using file = openFileNow(place.at, path, this.#uid);
    // It may have grown since it was looked at.
    if (file.stat.size > SMALL_BYTES) return this.#readLarge(place.at, path, each);
    const began = this.#now();
    const bytes = readFileSync(file.fd);
    each(bytes);
    return this.#remember(path, file.stat, began, contentOf(bytes));
  }

  /** Forgets all files but these. */
  keep(paths: Set<string>): void {
    for (const path of this.#known.keys()) if (!paths.has(path)) this.#known.delete(path);
  }

  async #readLarge(at: string, path: string, each: Reader): Promise<Content> {
    await using file = await openFile(at, path, this.#uid);
    const began = this.#now();
    const sum = createHash('sha256');
    let size = 0;
    for await (const piece of pieces(file.handle, file.stat.size)) {
      sum.update(piece);
      each(piece);
      size += piece.length;
    }
    return this.#remember(path, file.stat, began, { size, sha256: sum.digest('hex') });
  }

  #remember(path: string, stat: Stats, began: number, content: Content): Content {
    if (began - Math.max(stat.ctimeMs, stat.mtimeMs) > SETTLED_MS) {
      this.#known.set(path, { key: keyOf(stat), content });
    }
    return content;
  }
}

/** Another one after every change of what is there, within the tick of its time stamps. */
export function keyOf({ ino, size, mode, mtimeMs, ctimeMs }: Stats): string {
  return `${ino} ${size} ${mode} ${mtimeMs} ${ctimeMs}`;
}

/**
 * The first `size` bytes of an open file, or what there is of them: one that grows as fast as it is read would have no end. A
 * piece is only valid until the next one.
 */
export async function* pieces(handle: FileHandle, size: number, from = 0): AsyncGenerator<Buffer> {
  const buffer = Buffer.allocUnsafe(PIECE_BYTES);
  for (let at = 0; at < size; ) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(PIECE_BYTES, size - at), from + at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}
