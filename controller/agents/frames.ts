/** RFC 6455 §5.2, as far as lanes need it: whole binary messages in one frame each, none of the control frames. */
const BINARY = 0x82;
const MASKED = 0x80;
const MASK_BYTES = 4;
const MOST_HEAD_BYTES = 14;

/**
 * The head of a frame. A client has to mask what it sends; its mask here is all zeros, which leaves the bytes as they are:
 * masks guard proxies that would take a browser's bytes for HTTP.
 */
export function frameHead(length: number, masked: boolean): Buffer {
  const form = length < 126 ? length : length < 65_536 ? 126 : 127;
  const extended = extendedBytes(form);
  const head = Buffer.alloc(2 + extended + (masked ? MASK_BYTES : 0));
  head[0] = BINARY;
  head[1] = (masked ? MASKED : 0) | form;
  if (extended === 2) head.writeUInt16BE(length, 2);
  if (extended === 8) head.writeBigUInt64BE(BigInt(length), 2);
  return head;
}

/** Takes frames apart as their bytes come: what is inside is never copied or gathered. */
export class FrameReader {
  readonly #masked: boolean;
  readonly #head = Buffer.alloc(MOST_HEAD_BYTES);
  #headBytes = 0;
  #left = 0;

  constructor(masked: boolean) {
    this.#masked = masked;
  }

  /** The pieces of payload in `data`; an empty one stands for an empty frame. Throws at a frame that a lane does not have. */
  *read(data: Buffer): Generator<Buffer> {
    for (let at = 0; at < data.length; ) {
      if (this.#left > 0) {
        const piece = data.subarray(at, at + this.#left);
        at += piece.length;
        this.#left -= piece.length;
        yield piece;
        continue;
      }
      this.#head[this.#headBytes++] = data[at++]!;
      if (this.#headBytes < this.#expectedHeadBytes()) continue;
      this.#left = this.#payloadBytes();
      this.#headBytes = 0;
      if (this.#left === 0) yield data.subarray(at, at);
    }
  }

  #expectedHeadBytes(): number {
    if (this.#headBytes < 2) return 2;
    return 2 + extendedBytes(this.#head[1]! & ~MASKED) + (this.#masked ? MASK_BYTES : 0);
  }

  #payloadBytes(): number {
    const [first, second] = this.#head as unknown as [number, number];
    const form = second & ~MASKED;
    const mask = 2 + extendedBytes(form);
    if (first !== BINARY || (second & MASKED) !== (this.#masked ? MASKED : 0))
      throw new Error(`A lane has no frames that begin with ${first}, ${second}`);
    if (this.#masked && this.#head.readUInt32BE(mask) !== 0)
      throw new Error('The mask of a lane is all zeros');
    if (form === 126) return this.#head.readUInt16BE(2);
    return form === 127 ? Number(this.#head.readBigUInt64BE(2)) : form;
  }
}

function extendedBytes(form: number): number {
  return form === 126 ? 2 : form === 127 ? 8 : 0;
}
