import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Packer } from '../../../image/agent/workspace/pack.ts';
import { upload } from '../../../image/agent/workspace/upload.ts';
import { Storage } from '../storage.ts';
import { type Packed, packed, packerOf, restored } from './packing.ts';

const OBJECT_BYTES = 100_000;

let storage: Storage;
let dir: string;
let tree: string;
let packer: Packer;
beforeEach(async () => {
  storage = await Storage.start();
  dir = mkdtempSync(join(tmpdir(), 'upload-'));
  tree = join(dir, 'tree');
  mkdirSync(tree);
  packer = packerOf(tree, dir);
});
afterEach(async () => {
  await storage[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true, force: true });
});

/** Some objects of a pack and the manifest. */
async function run(): Promise<Packed> {
  writeFileSync(join(tree, 'random'), randomBytes(350_000));
  return packed(packer, { object_bytes: OBJECT_BYTES });
}
const objectsOf = ({ manifest, packs }: Packed) => [...packs, manifest].map(({ sha256 }) => sha256);
const urlsOf = (names: string[]) => Object.fromEntries(names.map((name) => [name, storage.url(name)]));
const send = (result: Packed, names = objectsOf(result), more = {}) =>
  upload(packer.spool(result.pack_id), urlsOf(names), { proxy: undefined, ...more }, { random: () => 0 });
const puts = () => storage.requests.splice(0).map((line) => line.split(' ')[1]!);

function refuse(status: number, body: unknown = {}) {
  return (_req: IncomingMessage, res: ServerResponse) => {
    res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    return true;
  };
}

test('no object is larger than asked for, and what is in them comes back', async () => {
  for (const object_bytes of [OBJECT_BYTES, 1_000, 350_000]) {
    writeFileSync(join(tree, 'random'), randomBytes(350_000));
    const result = await packed(packer, { object_bytes });
    expect(Math.max(...result.packs.map(({ bytes }) => bytes))).toBeLessThanOrEqual(object_bytes);
    expect(result.packs.length).toBe(
      Math.ceil(result.packs.reduce((sum, { bytes }) => sum + bytes, 0) / object_bytes),
    );
    await restored(packer, result, storage, dir);
  }
});

test('a tree that stands still gives the run of before, and only what is missing is sent', async () => {
  const result = await run();
  const [first, second, ...others] = objectsOf(result);
  storage.intercept = (req, res) =>
    req.url!.includes(second!) ? refuse(402, { error: 'quota' })(req, res) : false;
  await expect(send(result)).rejects.toMatchObject({ code: 'storage_full', object: second });
  const taken = puts().filter((name) => name !== second);
  expect(taken).toContain(first);

  storage.intercept = () => false;
  const again = await packed(packer, { object_bytes: OBJECT_BYTES });
  expect(again).toEqual({ ...result, paused_ms: 0 });
  const missing = objectsOf(result).filter((name) => !taken.includes(name));
  expect(await send(again, missing)).toEqual([first, second, ...others]);
  expect(puts().toSorted()).toEqual(missing.toSorted());
  // The commit may have failed: nothing is to be sent for the next one.
  expect(await send(again, [])).toEqual(objectsOf(result));
  expect(puts()).toEqual([]);
  // Asked for once more after that the storage may have lost it: all is packed and sent anew.
  const anew = await packed(packer, { object_bytes: OBJECT_BYTES });
  expect(anew.pack_id).not.toBe(result.pack_id);
  await send(anew);
  expect(puts().toSorted()).toEqual(objectsOf(result).toSorted());
});

test('a run of another base, size of objects or tree is another one', async () => {
  const result = await run();
  expect((await packed(packer, { object_bytes: OBJECT_BYTES, base: 1 })).pack_id).not.toBe(result.pack_id);
  const other = await packed(packer, { object_bytes: 2 * OBJECT_BYTES });
  expect(other.packs.length).toBeLessThan(result.packs.length);
  writeFileSync(join(tree, 'more'), 'x');
  expect((await packed(packer, { object_bytes: 2 * OBJECT_BYTES })).files).toBe(2);
});

test.each<[string, number, number, unknown, string]>([
  [
    'storage_full',
    413,
    1,
    { statusCode: '413', error: 'Payload too large', message: 'The object exceeded' },
    'The object exceeded',
  ],
  [
    'storage_refused',
    404,
    1,
    { statusCode: '404', error: 'Bucket not found', code: 'NoSuchBucket' },
    'NoSuchBucket',
  ],
  [
    'storage_unavailable',
    503,
    4,
    { error: 'see https://x.example/?token=secret or token=abc' },
    'the storage answered 503',
  ],
])(
  '%s names the object, the status and the storage’s words, never a URL',
  async (code, status, tries, body, words) => {
    const result = await run();
    const name = result.manifest.sha256;
    storage.intercept = (req, res) => (req.url!.includes(name) ? refuse(status, body)(req, res) : false);
    const error = await send(result).catch((reason) => reason);
    expect(error.toWire()).toEqual({ code, status, object: name, detail: expect.stringContaining(words) });
    expect(error.detail).not.toMatch(/token|:\/\//);
    expect(puts().filter((put) => put === name)).toHaveLength(tries);
  },
);

test('a try ends when no byte moves any more, and the next one goes through', async () => {
  const result = await run();
  const silent = new Set<string>();
  storage.intercept = (req) => {
    if (silent.has(req.url!)) return false;
    silent.add(req.url!);
    return true;
  };
  await send(result, objectsOf(result), { idleMs: 100 });
  expect(puts()).toHaveLength(2 * objectsOf(result).length);
});

test('however slow, it goes on while bytes move', async () => {
  const result = await run();
  const idleMs = 3_000;
  const began = performance.now();
  storage.intercept = (req, res) => {
    if (req.url!.includes(result.manifest.sha256)) return false;
    // Takes more than the time without progress in all, by pieces that each take less.
    let pieces = 0;
    const beat = setInterval(() => {
      res.writeProcessing();
      pieces += 1;
      if (pieces < 13) return;
      clearInterval(beat);
      req.resume().once('end', () => res.end('{}'));
    }, idleMs / 12);
    return true;
  };
  await send(result, objectsOf(result), { idleMs });
  expect(performance.now() - began).toBeGreaterThan(idleMs);
  expect(puts()).toHaveLength(objectsOf(result).length);
});

test('ends with whoever asked for it', async () => {
  const result = await run();
  const gone = new AbortController();
  const requests: IncomingMessage[] = [];
  storage.intercept = (req) => requests.push(req) > 0;
  const sending = send(result, objectsOf(result), { signal: gone.signal }).catch((error) => error);
  await expect.poll(() => requests.length).toBe(3);
  const closed = requests.map((req) => once(req, 'close'));
  gone.abort();
  await Promise.allSettled(closed);
  expect((await sending).code).toBe('storage_unavailable');
});

test('a spool that was spoilt fails without harm', async () => {
  const result = await run();
  truncateSync(join(packer.spool(result.pack_id).dir, result.manifest.sha256), 10);
  await expect(send(result)).rejects.toMatchObject({
    code: 'storage_unavailable',
    object: result.manifest.sha256,
  });
});
