import { isUtf8 } from 'node:buffer';

export interface Encoded {
  data: string;
  encoding?: 'base64';
}

/** How many bytes at the end of `bytes` begin a UTF-8 character that isn't complete yet: 0 to 3. */
export function incompleteTail(bytes: Uint8Array): number {
  const { length } = bytes;
  for (let back = 1; back <= Math.min(3, length); back += 1) {
    const byte = bytes[length - back]!;
    if ((byte & 0b1100_0000) === 0b1000_0000) continue;
    const size = byte >= 0b1111_0000 ? 4 : byte >= 0b1110_0000 ? 3 : byte >= 0b1100_0000 ? 2 : 1;
    return size > back ? back : 0;
  }
  return 0;
}

/** A piece up to this size is text for whoever reads the stream by eye; a larger one is part of a flood. */
const TEXT_BYTES = 4096;

/**
 * Text where the bytes are UTF-8 and few, base64 otherwise: that takes a third of the time that escaping takes, and never more than
 * 4/3 of the room, where a zero as text takes six bytes.
 */
export function encode(bytes: Buffer): Encoded {
  return bytes.length <= TEXT_BYTES && isUtf8(bytes)
    ? { data: bytes.toString('utf8') }
    : { data: bytes.toString('base64'), encoding: 'base64' };
}
