import { createHash, hash } from 'node:crypto';
import { readFileSync, type Stats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import type { Beneath } from '../files/beneath.ts';
import { openFile } from '../files/read.ts';

/** Up to this size a file is read in one go. */
export const SMALL_BYTES = 4 << 20;
const PIECE_BYTES = 1 << 20;
/** A file changed so shortly before it was read may change again within the same tick of its time stamps. */
const SETTLED_MS = 100;

export const EMPTY_SHA256 = sha256(Buffer.alloc(0));

export function sha256(bytes: Uint8Array | string): string {
  return hash('sha256', bytes, 'hex');
}

/** SHA-256 of files, remembered while their size, times and inode stay the same. */
export class Hashes {
  #known = new Map<string, { key: string; sha256: string }>();
  readonly #tree: Beneath;
  readonly #uid: number;
  readonly #now: () => number;

  constructor(tree: Beneath, uid: number, now: () => number) {
    this.#tree = tree;
    this.#uid = uid;
    this.#now = now;
  }

  /** Rejects with an errno or `path_outside` where the file can't be read as the user's own. */
  async of(path: string, stat: Stats): Promise<string> {
    const known = this.#known.get(path);
    if (known !== undefined && known.key === keyOf(stat)) return known.sha256;
    using place = this.#tree.find(path);
    await using file = await openFile(place.at, path, this.#uid);
    const began = this.#now();
    const value = await hashOf(file.handle, file.stat.size);
    if (began - Math.max(file.stat.ctimeMs, file.stat.mtimeMs) > SETTLED_MS) {
      this.#known.set(path, { key: keyOf(file.stat), sha256: value });
    }
    return value;
  }

  /** Forgets all files but these. */
  keep(paths: Set<string>): void {
    for (const path of this.#known.keys()) if (!paths.has(path)) this.#known.delete(path);
  }
}

function keyOf({ ino, size, mtimeMs, ctimeMs }: Stats): string {
  return `${ino} ${size} ${mtimeMs} ${ctimeMs}`;
}

async function hashOf(handle: FileHandle, size: number): Promise<string> {
  if (size <= SMALL_BYTES) return sha256(readFileSync(handle.fd));
  const sum = createHash('sha256');
  for await (const piece of pieces(handle)) sum.update(piece);
  return sum.digest('hex');
}

/** The bytes of an open file from its beginning to wherever its end then is. A piece is only valid until the next one. */
export async function* pieces(handle: FileHandle): AsyncGenerator<Buffer> {
  const buffer = Buffer.allocUnsafe(PIECE_BYTES);
  for (let at = 0; ; ) {
    const { bytesRead } = await handle.read(buffer, 0, PIECE_BYTES, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}
