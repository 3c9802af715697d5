import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameReader, frameHead } from '../../controller/agents/frames.ts';

/** What the reader gives of a stream that arrives in chunks of these sizes, the empty frames as `null`. */
function readAll(stream: Buffer, masked: boolean, sizes: number[]): { bytes: Buffer; ends: number[] } {
  const reader = new FrameReader(masked);
  const pieces: Buffer[] = [];
  const ends: number[] = [];
  let bytes = 0;
  for (let at = 0, i = 0; at < stream.length; i += 1) {
    const size = sizes[i % sizes.length]!;
    for (const piece of reader.read(stream.subarray(at, at + size))) {
      pieces.push(piece);
      bytes += piece.length;
      if (piece.length === 0) ends.push(bytes);
    }
    at += size;
  }
  return { bytes: Buffer.concat(pieces), ends };
}

describe('frames', () => {
  it('come back as what was framed, however they are cut', () => {
    const payload = fc.oneof(
      fc.constantFrom(0, 1, 125, 126, 127, 65_535, 65_536, 100_000),
      fc.integer({ min: 0, max: 300 }),
    );
    const size = fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constant(65_536));
    fc.assert(
      fc.property(
        fc.array(payload, { maxLength: 5 }),
        fc.array(size, { minLength: 1, maxLength: 5 }),
        fc.boolean(),
        (lengths, sizes, masked) => {
          const bodies = lengths.map((length, i) => Buffer.alloc(length, i + 1));
          const stream = bodies.flatMap((body) => [frameHead(body.length, masked), body]);
          const { bytes, ends } = readAll(Buffer.concat(stream), masked, sizes);
          expect(bytes.equals(Buffer.concat(bodies))).toBe(true);
          expect(ends).toHaveLength(lengths.filter((length) => length === 0).length);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('are not copied', () => {
    const stream = Buffer.concat([frameHead(3, false), Buffer.from('abc')]);
    const [piece] = [...new FrameReader(false).read(stream)];
    expect(piece!.buffer).toBe(stream.buffer);
  });

  it.each([
    ['text', [0x81, 0x80, 0, 0, 0, 0]],
    ['a part of a message', [0x02, 0x80, 0, 0, 0, 0]],
    ['a ping', [0x89, 0x80, 0, 0, 0, 0]],
    ['no mask', [0x82, 0x01, 1, 2, 3, 4, 5]],
    ['another mask', [0x82, 0x81, 0, 0, 0, 1, 5]],
  ])('of another kind are refused: %s', (_what, bytes) => {
    expect(() => [...new FrameReader(true).read(Buffer.from(bytes))]).toThrow(/lane/);
  });
});
