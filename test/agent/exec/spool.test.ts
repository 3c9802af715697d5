import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type SpoolBudget, streamLimit } from '../../../image/agent/exec/budget.ts';
import { encode, incompleteTail } from '../../../image/agent/exec/encode.ts';
import { Spool } from '../../../image/agent/exec/spool.ts';
import { decode, until } from '../rig.ts';

const KIB = 1024;
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'spool-test-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

const budget = (streamBytes: number): SpoolBudget => ({
  used: 0,
  totalBytes: 1 << 30,
  streamBytes,
  segmentBytes: streamBytes / 8,
});
/** Bytes that say their own offset. */
const pattern = (from: number, length: number) =>
  Buffer.from(Array.from({ length }, (_, i) => ((from + i) * 31) % 251));

async function drain(spool: Spool, from: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let at = from; at < spool.end; ) {
    const part = await spool.read(at, 10 * KIB);
    if (part === undefined) throw new Error(`nothing at ${at}`);
    parts.push(part);
    at += part.length;
  }
  return Buffer.concat(parts);
}

test('short output never touches the disk', async () => {
  const spool = new Spool(join(dir, 'x'), budget(1 << 20), () => {});
  spool.append(pattern(0, 3 * KIB));
  spool.close();
  expect(await drain(spool, 0)).toEqual(pattern(0, 3 * KIB));
  expect(await drain(spool, 100)).toEqual(pattern(100, 3 * KIB - 100));
  expect(readdirSync(dir)).toEqual([]);
});

test('longer output reads the same from any offset, while it is written and after', async () => {
  const limit = budget(1 << 20);
  const spool = new Spool(join(dir, 'x'), limit, () => {});
  for (let at = 0; at < 900 * KIB; at += 9 * KIB) {
    spool.append(pattern(at, 9 * KIB));
    if (at % (90 * KIB) === 0)
      expect(await drain(spool, Math.max(0, at - 1000))).toEqual(
        pattern(Math.max(0, at - 1000), spool.end - Math.max(0, at - 1000)),
      );
  }
  spool.close();
  await until(() => limit.used === spool.end);
  for (const from of [0, 1, 128 * KIB - 1, 128 * KIB, 500_000, spool.end]) {
    expect((await drain(spool, from)).equals(pattern(from, spool.end - from))).toBe(true);
  }
  expect(spool.full(0)).toBe(false);
  spool.dispose();
  await until(() => readdirSync(dir).length === 0);
  expect(limit.used).toBe(0);
});

test('without a reader the oldest goes; a reader in it is waited for until it stalls for 30 s', async () => {
  const limit = budget(256 * KIB);
  const spool = new Spool(join(dir, 'x'), limit, () => {});
  const write = async (bytes: number) => {
    for (let done = 0; done < bytes; done += 16 * KIB) {
      spool.append(pattern(spool.end, 16 * KIB));
      // As fast as the disk takes it: what gathers in memory goes to one file, however much it is.
      await until(() => spool.end - (spool.start + limit.used) <= 64 * KIB);
    }
  };
  const now = 1_000;
  await write(1024 * KIB);
  await until(() => !spool.full(now) && limit.used > 0 && limit.used <= 256 * KIB);
  expect(spool.start).toBeGreaterThan(0);
  expect(spool.read(0, 1)).toBeUndefined();
  const kept = spool.start;
  const cursor = spool.attach(kept, now);
  await write(1024 * KIB);
  expect(spool.full(now + 29_999)).toBe(true);
  expect(spool.start).toBe(kept);
  cursor.position += 200 * KIB;
  cursor.movedAt = now + 29_999;
  spool.full(now + 40_000);
  expect(spool.start).toBeGreaterThan(kept);
  expect(spool.start).toBeLessThanOrEqual(cursor.position);
  spool.full(now + 60_000);
  expect(spool.start).toBeGreaterThan(cursor.position);
  spool.detach(cursor);
  spool.close();
  await until(() => limit.used + spool.start >= spool.end - 4 * KIB);
});

test('output that is given up while it goes to disk leaves nothing there', async () => {
  const limit = budget(1 << 20);
  await new Promise<void>((written) => {
    const spool = new Spool(join(dir, 'x'), limit, written);
    spool.append(pattern(0, 200 * KIB));
    spool.close();
    spool.dispose();
  });
  await until(() => readdirSync(dir).length === 0);
  expect(limit.used).toBe(0);
});

test('a byte at a time reads the same', async () => {
  const spool = new Spool(join(dir, 'x'), budget(1 << 20), () => {});
  for (let at = 0; at < 2_000; at += 1) spool.append(pattern(at, 1));
  expect(await drain(spool, 5)).toEqual(pattern(5, 1_995));
});

test('a disk without room costs old output, never the process', async () => {
  const spool = new Spool(join(dir, 'no', 'such', 'folder'), budget(1 << 20), () => {});
  for (let at = 0; at < 300 * KIB; at += 10 * KIB) {
    spool.append(pattern(at, 10 * KIB));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await until(() => spool.start > 0);
  expect(spool.full(0)).toBe(false);
});

test('all together over budget, each one keeps less', () => {
  const limit = budget(1 << 20);
  expect(streamLimit(limit)).toBe(1 << 20);
  limit.used = (1 << 30) + 1;
  expect(streamLimit(limit)).toBeLessThan(1 << 20);
});

test('text is cut at characters and anything else is base64, and both decode to the same bytes', () => {
  const mixed = fc.array(
    fc.oneof(
      fc.string({ unit: 'binary' }).map((text) => Buffer.from(text)),
      fc.uint8Array().map((bytes) => Buffer.from(bytes)),
    ),
  );
  fc.assert(
    fc.property(mixed, (parts) => {
      const bytes = Buffer.concat(parts);
      expect(decode({ type: 'stdout', offset: 0, ...encode(bytes) })).toEqual(bytes);
    }),
  );
  fc.assert(
    fc.property(fc.string({ unit: 'binary', minLength: 1 }), fc.nat(), (text, where) => {
      const bytes = Buffer.from(text);
      const cut = bytes.subarray(0, where % (bytes.length + 1));
      const whole = cut.subarray(0, cut.length - incompleteTail(cut));
      expect(encode(whole).encoding).toBeUndefined();
      expect(cut.length - whole.length).toBeLessThanOrEqual(3);
    }),
  );
});
