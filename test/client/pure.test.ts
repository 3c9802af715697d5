import { Readable } from 'node:stream';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { exitCodeOfResult } from '../../client/cli/exit.ts';
import { advance } from '../../client/follow.ts';
import { readLines } from '../../client/ndjson.ts';

test('pieces that overlap are put together to the same bytes, each once', () => {
  const content = fc.uint8Array({ minLength: 1, maxLength: 200 });
  const readers = fc.array(fc.tuple(fc.nat(250), fc.integer({ min: 1, max: 60 })), { maxLength: 20 });
  fc.assert(
    fc.property(content, readers, (bytes, breaks) => {
      const all = Buffer.from(bytes);
      const offsets = { stdout: 0, stderr: 0 };
      const got: Buffer[] = [];
      const give = (from: number, to: number) => {
        for (const chunk of advance(offsets, 'stdout', from, all.subarray(from, to))) {
          expect('lostTo' in chunk).toBe(false);
          if ('data' in chunk) got.push(chunk.data);
        }
      };
      // Every reader begins anywhere in what is had already, as a stream that was opened again would.
      for (const [back, length] of breaks) {
        const from = Math.max(0, offsets.stdout - back);
        give(from, Math.min(all.length, from + length));
      }
      give(offsets.stdout, all.length);
      expect(Buffer.concat(got).equals(all)).toBe(true);
      expect(offsets).toEqual({ stdout: all.length, stderr: 0 });
    }),
  );
});

test('bytes that are missing are said to be, and what follows is kept', () => {
  const offsets = { stdout: 5, stderr: 0 };
  expect(advance(offsets, 'stdout', 8, Buffer.from('abc'))).toEqual([
    { stream: 'stdout', offset: 5, lostTo: 8 },
    { stream: 'stdout', offset: 8, data: Buffer.from('abc') },
  ]);
  expect(advance(offsets, 'stdout', 20, Buffer.alloc(0))).toEqual([
    { stream: 'stdout', offset: 11, lostTo: 20 },
  ]);
  expect(offsets).toEqual({ stdout: 20, stderr: 0 });
});

test('lines are read whole wherever the network cuts them, in the middle of a character too', async () => {
  const value = fc.oneof(fc.string({ unit: 'binary' }), fc.constant('größe ☕\u2028'));
  await fc.assert(
    fc.asyncProperty(
      fc.array(value, { maxLength: 10 }),
      fc.integer({ min: 1, max: 9 }),
      async (values, size) => {
        const bytes = Buffer.from(values.map((one) => `${JSON.stringify(one)}\n`).join(''));
        const cut = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
          bytes.subarray(i * size, (i + 1) * size),
        );
        const read: string[] = [];
        for await (const batch of readLines<string>(Readable.from(cut))) read.push(...batch);
        expect(read).toEqual(values);
      },
    ),
    { numRuns: 50 },
  );
});

test('a last line that was cut is no line', async () => {
  const read: unknown[] = [];
  for await (const batch of readLines(Readable.from([Buffer.from('{"a":1}\n{"type":"end"')])))
    read.push(...batch);
  expect(read).toEqual([{ a: 1 }]);
});

test.each([
  [{ kind: 'exited', code: 0 }, 0],
  [{ kind: 'exited', code: 255 }, 255],
  [{ kind: 'signaled', signal: 'SIGKILL' }, 137],
  [{ kind: 'signaled', signal: 'SIGINT' }, 130],
  [{ kind: 'timed_out', timeout_ms: 1 }, 124],
  [{ kind: 'machine_lost', reason: '' }, 125],
  [{ kind: 'unknown', reason: '' }, 125],
] as const)('%o exits with %d', (result, code) => {
  expect(exitCodeOfResult(result)).toBe(code);
});
