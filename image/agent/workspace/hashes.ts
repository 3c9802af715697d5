import { createHash, hash } from 'node:crypto';
import { readFileSync, type Stats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import type { Beneath } from '../files/beneath.ts';
import { type OpenFile, openFile } from '../files/read.ts';

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

  /** Rejects with an errno or `path_outside` where the file can't be read as the user's own. */
  async of(path: string, stat: Stats): Promise<Content> {
    const known = this.#known.get(path);
    if (known !== undefined && known.key === keyOf(stat)) return known.content;
    using place = this.#tree.find(path);
    await using file = await openFile(place.at, path, this.#uid);
    const began = this.#now();
    const content = await read(file);
    if (began - Math.max(file.stat.ctimeMs, file.stat.mtimeMs) > SETTLED_MS) {
      this.#known.set(path, { key: keyOf(file.stat), content });
    }
    return content;
  }

  /** Forgets all files but these. */
  keep(paths: Set<string>): void {
    for (const path of this.#known.keys()) if (!paths.has(path)) this.#known.delete(path);
  }
}

function keyOf({ ino, size, mtimeMs, ctimeMs }: Stats): string {
  return `${ino} ${size} ${mtimeMs} ${ctimeMs}`;
}

async function read({ handle, stat }: OpenFile): Promise<Content> {
  if (stat.size <= SMALL_BYTES) return contentOf(readFileSync(handle.fd));
  const sum = createHash('sha256');
  let size = 0;
  for await (const piece of pieces(handle, stat.size)) {
    sum.update(piece);
    size += piece.length;
  }
  return { size, sha256: sum.digest('hex') };
}

/**
 * The first `size` bytes of an open file, or what there is of them: one that grows as fast as it is read would have no end. A
 * piece is only valid until the next one.
 */
export async function* pieces(handle: FileHandle, size: number): AsyncGenerator<Buffer> {
  const buffer = Buffer.allocUnsafe(PIECE_BYTES);
  for (let at = 0; at < size; ) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(PIECE_BYTES, size - at), at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}
