import { createHash } from 'node:crypto';
import { closeSync, constants, ftruncateSync, openSync, writeSync } from 'node:fs';
import type { Content } from './hashes.ts';

const WRITE = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;
const ZEROS = Buffer.alloc(1 << 20);

/** Writes a file and says what it holds. Pieces of nothing but zeros become holes: a sparse file may be larger than the disk. */
export async function writeHashed(pieces: AsyncIterable<Buffer>, at: string): Promise<Content> {
  const sum = createHash('sha256');
  let size = 0;
  const fd = openSync(at, WRITE, 0o600);
  try {
    for await (const piece of pieces) {
      sum.update(piece);
      if (!isZeros(piece)) writeAll(fd, piece, size);
      size += piece.length;
    }
    ftruncateSync(fd, size);
  } finally {
    closeSync(fd);
  }
  return { size, sha256: sum.digest('hex') };
}

function writeAll(fd: number, piece: Buffer, at: number): void {
  for (let done = 0; done < piece.length; )
    done += writeSync(fd, piece, done, piece.length - done, at + done);
}

function isZeros(piece: Buffer): boolean {
  return piece.length <= ZEROS.length && piece.equals(ZEROS.subarray(0, piece.length));
}
