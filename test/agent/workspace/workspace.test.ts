import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, rmSync } from 'node:fs';
import { chown, link, lstat, mkdir, readFile, readlink, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { gunzipSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { pack as tar } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Manifest, ManifestEntry, PackResult, RestoreRequest } from '../../../controller/agents/wire.ts';
import { Rig, until } from '../rig.ts';
import { Storage } from '../storage.ts';
import { type Ended, long } from './long.ts';

type Packed = PackResult & { changed: true };

let storage: Storage;
beforeAll(async () => {
  storage = await Storage.start();
});
afterAll(() => storage[Symbol.asyncDispose]());

const hash = (bytes: Buffer | string) => createHash('sha256').update(bytes).digest('hex');
const pack = async (rig: Rig, base = 0, base_sha256?: string, more = {}) =>
  (await long(rig, '/workspace/pack', { base, base_sha256, ...more })).result;
const urlsOf = ({ manifest, packs }: Packed) =>
  Object.fromEntries([manifest, ...packs].map(({ sha256 }) => [sha256, storage.url(sha256)]));
const upload = (rig: Rig, packed: Packed, urls = urlsOf(packed)): Promise<Ended> =>
  long(rig, '/workspace/upload', { pack_id: packed.pack_id, urls });
const uploadedOf = ({ manifest, packs }: Packed) => ({
  uploaded: [...packs, manifest].map(({ sha256 }) => sha256),
});
const restoreOf = (version: number, packed: Packed): RestoreRequest => ({
  version,
  manifest: { ...packed.manifest, url: storage.url(packed.manifest.sha256) },
  packs: packed.packs.map((each) => ({ ...each, url: storage.url(each.sha256) })),
});
const restore = (rig: Rig, request: RestoreRequest) => long(rig, '/workspace/restore', request);

/** All there is to know of a tree that a restore must bring back. */
async function snapshot(dir: string, below = ''): Promise<unknown[]> {
  const all: unknown[] = [];
  for (const name of readdirSync(join(dir, below)).sort()) {
    const path = join(below, name);
    const at = join(dir, path);
    const stat = await lstat(at);
    const mtime = Math.trunc(stat.mtimeMs);
    if (stat.isSymbolicLink()) all.push([path, await readlink(at)]);
    else if (stat.isFile()) all.push([path, stat.mode, mtime, hash(await readFile(at))]);
    else if (stat.isDirectory()) all.push([path, stat.mode, mtime], ...(await snapshot(dir, path)));
  }
  return all;
}

const TREE = `
mkdir -p 'app/(tabs)' empty deep/er .git
echo 'export default 1' > 'app/(tabs)/[id].tsx'
printf x > 'ünïcode 😀'; : > nothing; head -c 100000 /dev/urandom > image.png
echo same > one; cp one deep/er/two; ln one deep/hard
printf '#!/bin/sh\\n' > run.sh; chmod 755 run.sh; chmod 400 nothing; chmod 500 empty
ln -s run.sh link; ln -s /etc/passwd absolute; ln -s missing dangling
touch -d '2001-02-03 04:05:06.789' image.png; touch -d '1999-01-01' deep
head -c 6000000 /dev/urandom > large.bin`;
const LEFT_OUT =
  'mkdir -p node_modules/x deep/node_modules .expo; echo > node_modules/x/y; echo > .git/index.lock; mkfifo fifo';

test('what is packed and uploaded comes back on another machine, to the byte, mode and time', async () => {
  await using rig = await Rig.start();
  await rig.run('make', TREE);
  const before = await snapshot(rig.workspace);
  await rig.run('more', `${LEFT_OUT}; touch -r large.bin . deep .git; touch -d '1999-01-01' deep`);
  const packed: Packed = await pack(rig, 7);
  expect(packed).toMatchObject({ changed: true, files: 9 });
  expect((await upload(rig, packed)).result).toEqual(uploadedOf(packed));

  const manifest: Manifest = JSON.parse(gunzipSync(storage.objects.get(packed.manifest.sha256)!).toString());
  expect(manifest).toMatchObject({ format: 1, session: 'test', base: 7, packs: [packed.packs] });
  const paths = manifest.entries.map(({ path }) => path);
  expect(paths).toEqual([...paths].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
  expect(paths.filter((path) => /node_modules|expo|lock|fifo/.test(path))).toEqual([]);
  for (const { sha256, bytes } of [packed.manifest, ...packed.packs]) {
    const object = storage.objects.get(sha256)!;
    expect([hash(object), object.length]).toEqual([sha256, bytes]);
  }

  await using other = await Rig.start();
  const request = restoreOf(8, packed);
  const restored = await restore(other, request);
  expect(restored.result).toEqual({ version: 8, files: 9, bytes: packed.bytes });
  const after = await snapshot(other.workspace);
  const gitTime = (entries: unknown[]) =>
    entries.map((entry) => ((entry as unknown[])[0] === '.git' ? '.git' : entry));
  expect(gitTime(after)).toEqual(gitTime(before));
  expect((await other.request('GET', '/health')).json().workspace).toEqual({ state: 'ready', version: 8 });

  // Again it does nothing, not even ask.
  const asked = storage.requests.length;
  await writeFile(join(other.workspace, 'one'), 'changed');
  expect((await restore(other, request)).result).toEqual(restored.result);
  expect(storage.requests.length).toBe(asked);
  expect(await readFile(join(other.workspace, 'one'), 'utf8')).toBe('changed');
  expect((await restore(other, { version: 9 })).error!.code).toBe('restore_failed');
});

test('an unchanged tree is said to be so, after a save and after a restore; a change is not', async () => {
  await using rig = await Rig.start();
  await rig.run('make', TREE);
  const packed: Packed = await pack(rig);
  await upload(rig, packed);
  const { sha256 } = packed.manifest;
  expect(await pack(rig, 1, sha256)).toEqual({ changed: false, sha256 });
  // A base that it never saw could be anything.
  expect((await pack(rig, 1, hash('other'))).changed).toBe(true);

  await using other = await Rig.start();
  await restore(other, restoreOf(1, packed));
  expect(await pack(other, 1, sha256)).toEqual({ changed: false, sha256 });
  for (const [change, command] of Object.entries({
    content: 'printf y > one; touch -r deep one',
    mode: 'chmod 600 one',
    link: 'ln -sfn elsewhere link',
    name: 'mv one three',
    added: 'mkdir new',
  })) {
    await other.run(change, command);
    expect((await pack(other, 1, sha256)).changed, change).toBe(true);
  }
});

test('equal content is packed once, and the same content makes the same pack', async () => {
  await using rig = await Rig.start();
  await rig.run('make', 'head -c 200000 /dev/urandom > a; for i in 1 2 3 4 5; do cp a $i; done');
  const packed: Packed = await pack(rig);
  expect(packed.bytes).toBe(1_200_000);
  expect(packed.packs).toHaveLength(1);
  expect(packed.packs[0]!.bytes).toBeLessThan(210_000);
  await rig.run('touch', 'touch a');
  const again: Packed = await pack(rig);
  expect(again.packs).toEqual(packed.packs);
  expect(again.manifest.sha256).not.toBe(packed.manifest.sha256);
});

test('an empty workspace is a version too', async () => {
  await using rig = await Rig.start();
  const nothing: Packed = await pack(rig);
  expect(nothing).toMatchObject({ changed: true, packs: [], files: 0, bytes: 0 });
  expect((await upload(rig, nothing)).result).toEqual(uploadedOf(nothing));
  await using other = await Rig.start();
  expect((await restore(other, restoreOf(1, nothing))).result).toEqual({ version: 1, files: 0, bytes: 0 });
});

test('a file larger than any object may be goes into several, and comes back whole', async () => {
  await using rig = await Rig.start();
  await rig.run('make', 'head -c 55000000 /dev/urandom > large; echo small > small');
  const packed: Packed = await pack(rig);
  expect(packed.packs).toHaveLength(2);
  expect(Math.max(...packed.packs.map(({ bytes }) => bytes))).toBeLessThan(50_000_000);
  expect((await upload(rig, packed)).result).toEqual(uploadedOf(packed));
  await using other = await Rig.start();
  expect((await restore(other, restoreOf(1, packed))).result).toMatchObject({ files: 2, bytes: 55_000_006 });
  expect(await snapshot(other.workspace)).toEqual(await snapshot(rig.workspace));
});

test('holes stay holes: a sparse file takes no room that it does not need, neither packed nor restored', async () => {
  await using rig = await Rig.start();
  await rig.run('make', 'truncate -s 200M disk.img; printf end >> disk.img');
  const packed: Packed = await pack(rig);
  expect(packed).toMatchObject({ files: 1, bytes: 200 * 1024 * 1024 + 3 });
  expect((await upload(rig, packed)).result).toEqual(uploadedOf(packed));
  await using other = await Rig.start();
  await restore(other, restoreOf(1, packed));
  const stat = await lstat(join(other.workspace, 'disk.img'));
  expect(stat.size).toBe(packed.bytes);
  expect(stat.blocks * 512).toBeLessThan(1_000_000);
  expect(hash(await readFile(join(other.workspace, 'disk.img')))).toBe(
    hash(await readFile(join(rig.workspace, 'disk.img'))),
  );
});

test('names that a manifest can’t hold are left out and told; the rest is saved, however deep', async () => {
  await using rig = await Rig.start();
  await rig.run(
    'make',
    `printf 1 > "$(printf 'caf\\351')"; ln -s "$(printf 'caf\\351')" latin; truncate -s 5G huge; printf 2 > '�'; printf 3 > 'new
line'
    node -e '
      const fs = require("fs");
      for (let depth = 0; depth < 2100; depth++) { fs.mkdirSync("d"); process.chdir("d"); if (depth === 1500) fs.writeFileSync("deep", "4"); }
    '`,
  );
  const packed: Packed = await pack(rig);
  expect(packed).toMatchObject({ files: 3, bytes: 3 });
  expect(packed.left_out!.toSorted()).toEqual([
    expect.stringMatching(/: its name is not UTF-8$/),
    expect.stringMatching(/^d\/d\/.*: its path is too long$/),
    'huge: it is larger than 4 GiB',
    'latin: its target is not UTF-8',
  ]);
  expect((await upload(rig, packed)).result).toEqual(uploadedOf(packed));
  await using other = await Rig.start();
  expect((await restore(other, restoreOf(1, packed))).result).toEqual({ version: 1, files: 3, bytes: 3 });
  expect(await readFile(join(other.workspace, 'new\nline'), 'utf8')).toBe('3');
});

test('files that change while they are packed leave a version that restores', async () => {
  await using rig = await Rig.start();
  await rig.run(
    'make',
    'mkdir d; for i in $(seq 200); do echo $i > d/$i; done; head -c 5000000 /dev/urandom > big',
  );
  const churn =
    'n=0; while :; do n=$((n+1)); i=$((n % 200 + 1)); echo $n$n$n > d/$i; rm -f d/$(((n+7) % 200 + 1)); echo $n >> big; done';
  await rig.request('PUT', '/execs/churn', { command: churn });
  for (let version = 1; version <= 3; version += 1) {
    const packed: Packed = await pack(rig);
    expect(packed.changed).toBe(true);
    expect((await upload(rig, packed)).result).toEqual(uploadedOf(packed));
    await using target = await Rig.start();
    expect((await restore(target, restoreOf(version, packed))).error).toBeUndefined();
  }
  await rig.request('POST', '/execs/churn/signal', { signal: 'SIGKILL' });
});

describe('uploads', () => {
  test('are tried once more with the same bytes, and an object that is there already will do', async () => {
    await using rig = await Rig.start();
    await writeFile(join(rig.workspace, 'f'), 'retry');
    const packed: Packed = await pack(rig);
    const failed = new Set<string>();
    storage.intercept = (req, res) => {
      if (req.method !== 'PUT' || failed.has(req.url!)) return false;
      failed.add(req.url!);
      res.writeHead(503).end();
      return true;
    };
    expect((await upload(rig, packed)).result).toEqual(uploadedOf(packed));
    storage.intercept = () => false;
    expect(failed.size).toBe(2);
    expect((await upload(rig, packed)).result).toEqual(uploadedOf(packed));
    expect(hash(storage.objects.get(packed.manifest.sha256)!)).toBe(packed.manifest.sha256);
  });

  test('that are refused fail with a code, without the URL', async () => {
    await using rig = await Rig.start();
    const packed: Packed = await pack(rig);
    storage.intercept = (_req, res) => {
      res
        .writeHead(400)
        .end(JSON.stringify({ statusCode: '403', error: 'Unauthorized', code: 'InvalidSignature' }));
      return true;
    };
    const answer = await upload(rig, packed);
    storage.intercept = () => false;
    expect(answer.error).toMatchObject({
      code: 'storage_refused',
      detail: expect.stringContaining('InvalidSignature'),
      object: packed.manifest.sha256,
      status: 403,
    });
    expect(answer.text + rig.logs).not.toContain('token=');
    expect((await upload(rig, packed, {})).error).toMatchObject({ code: 'invalid_request', field: 'urls' });
    expect((await upload(rig, { ...packed, pack_id: 'x' })).error).toMatchObject({ field: 'pack_id' });
  });

  test('go through the proxy when there is one', async () => {
    await using rig = await Rig.idle();
    const asked: string[] = [];
    const proxy = createServer().listen(join(rig.dir, 'proxy.sock'));
    proxy.on('connect', (req, socket) => {
      asked.push(req.url!);
      const { hostname, port } = new URL(`http://${req.url}`);
      const out = connect(Number(port), hostname, () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
        out.pipe(socket).pipe(out);
      });
      socket.on('error', () => {});
      out.on('error', () => {});
    });
    await once(proxy, 'listening');
    rig.launch({ MOBVIBE_EGRESS_PROXY_URL: `unix:${join(rig.dir, 'proxy.sock')}` });
    const packed: Packed = await pack(rig);
    expect((await upload(rig, packed)).result).toEqual(uploadedOf(packed));
    expect(asked).toEqual([new URL(storage.url('x')).host]);
    proxy.close();
  });
});

describe('a restore refuses', () => {
  const secret = 'secret';
  const blob = Buffer.from('content');
  const file = (path: string): ManifestEntry => ({
    path,
    type: 'file',
    mode: 0o644,
    mtime_ms: 0,
    size: blob.length,
    sha256: hash(blob),
    pack: 0,
  });
  const directory = (path: string): ManifestEntry => ({ path, type: 'directory', mode: 0o755, mtime_ms: 0 });

  async function packOf(
    entries: { name: string; content?: Buffer; type?: 'symlink' | 'link' | 'file'; linkname?: string }[],
  ) {
    const archive = tar();
    for (const { content, ...header } of entries) archive.entry(header, content ?? Buffer.alloc(0));
    archive.finalize();
    const parts: Buffer[] = [];
    for await (const part of archive as unknown as AsyncIterable<Buffer>) parts.push(part);
    return zstdCompressSync(Buffer.concat(parts));
  }

  async function attempt(rig: Rig, entries: unknown[], packs: Buffer[]): Promise<Ended> {
    const stored = (bytes: Buffer) => {
      storage.objects.set(hash(bytes), bytes);
      return { sha256: hash(bytes), bytes: bytes.length };
    };
    const objects = packs.map(stored);
    const manifest = stored(
      gzipSync(
        JSON.stringify({
          format: 1,
          session: 'test',
          base: 0,
          packs: objects.map((object) => [object]),
          entries,
        }),
      ),
    );
    return restore(rig, restoreOf(1, { manifest, packs: objects } as Packed));
  }

  let rig: Rig;
  let good: Buffer;
  beforeAll(async () => {
    rig = await Rig.start();
    await writeFile(join(rig.dir, 'outside'), secret);
    good = await packOf([{ name: hash(blob), content: blob }]);
  });
  afterAll(() => rig[Symbol.asyncDispose]());

  async function refused(answer: Ended, why = '', code = 'restore_failed'): Promise<void> {
    expect(answer.error).toMatchObject({ code, detail: expect.stringContaining(why) });
    expect(answer.text).not.toContain('token=');
    expect(readdirSync(rig.workspace)).toEqual([]);
    expect(await readFile(join(rig.dir, 'outside'), 'utf8')).toBe(secret);
    expect((await rig.request('GET', '/health')).json().workspace).toEqual({ state: 'pristine' });
  }

  test.each<[string, string, ManifestEntry[]]>([
    ['..', 'leads out', [file('../outside')]],
    ['an absolute path', 'leads out', [file('/tmp/x')]],
    ['. as a part', 'leads out', [file('./a')]],
    ['an empty part', 'leads out', [directory('a'), file('a//b')]],
    ['NUL', 'leads out', [file('a\0b')]],
    ['a path without its directory', 'has no directory', [file('a/b')]],
    ['a path twice', 'comes twice', [file('a'), file('a')]],
    ['paths out of order', 'comes twice', [file('b'), file('a')]],
    [
      'a write through a symlink',
      'has no directory',
      [{ path: 'a', type: 'symlink', target: '..' }, file('a/outside')],
    ],
    ['a write through a file', 'has no directory', [file('a'), file('a/b')]],
    ['a pack that is not there', 'is in no pack', [{ ...file('a'), pack: 3 } as ManifestEntry]],
    [
      'a size that is not the blob’s',
      'a blob of a size that no file has',
      [{ ...file('a'), size: 3 } as ManifestEntry],
    ],
    ['a mode beyond a mode', 'has a bad mode', [{ ...file('a'), mode: 0o100644 } as ManifestEntry]],
    ['an unknown type', 'unknown type', [{ ...file('a'), type: 'device' } as unknown as ManifestEntry]],
    [
      'a blob in none of the packs',
      'in none of the packs',
      [file('a'), { ...file('b'), sha256: hash('b') } as ManifestEntry],
    ],
  ])('%s', async (_what, why, entries) => {
    await refused(await attempt(rig, entries, [good]), why);
  });

  test('packs whose entries are links, doubled, strange or not what their name says', async () => {
    const name = hash(blob);
    for (const hostile of [
      [{ name, type: 'symlink' as const, linkname: '/etc/passwd' }],
      [{ name, type: 'link' as const, linkname: '../../outside' }],
      [
        { name, content: blob },
        { name, content: blob },
      ],
      [{ name, content: Buffer.from('CONTENT') }],
      [{ name: '../outside', content: blob }],
      [{ name: hash('more'), content: Buffer.from('more') }],
      [],
    ]) {
      await refused(await attempt(rig, [file('a')], [await packOf(hostile)]));
    }
    await refused(await attempt(rig, [file('a')], [Buffer.from('no zstd')]));
    await refused(await attempt(rig, [file('a')], [good.subarray(0, good.length - 5)]));
  });

  test('objects that are not what was asked for', async () => {
    const packed = hash(good);
    await attempt(rig, [file('../x')], [good]);
    for (const [why, wrong] of [
      ['wrong hash', Buffer.concat([good, Buffer.from('x')])],
      ['truncated', good.subarray(1)],
      ['wrong hash', Buffer.alloc(good.length)],
      ['missing', undefined],
    ] as const) {
      const manifest = gzipSync(
        JSON.stringify({
          format: 1,
          session: 'test',
          base: 0,
          packs: [[{ sha256: packed, bytes: good.length }]],
          entries: [file('a')],
        }),
      );
      storage.objects.set(hash(manifest), manifest);
      if (wrong === undefined) storage.objects.delete(packed);
      else storage.objects.set(packed, wrong);
      await refused(
        await restore(
          rig,
          restoreOf(1, {
            manifest: { sha256: hash(manifest), bytes: manifest.length },
            packs: [{ sha256: packed, bytes: good.length }],
          } as Packed),
        ),
        why,
        'version_damaged',
      );
    }
  });

  test('a manifest that is sound but not the one that was asked for', async () => {
    const manifest = (mode: number) =>
      gzipSync(
        JSON.stringify({
          format: 1,
          session: 'test',
          base: 0,
          packs: [],
          entries: [{ ...directory('a'), mode }],
        }),
      );
    const asked = manifest(0o755);
    storage.objects.set(hash(asked), manifest(0o777));
    expect(manifest(0o777).length).toBe(asked.length);
    const object = { sha256: hash(asked), bytes: asked.length };
    await refused(
      await restore(rig, restoreOf(1, { manifest: object, packs: [] as unknown } as Packed)),
      'wrong hash',
      'version_damaged',
    );
  });

  test('a manifest of another session, or none', async () => {
    const manifest = gzipSync(
      JSON.stringify({ format: 1, session: 'other', base: 0, packs: [], entries: [] }),
    );
    storage.objects.set(hash(manifest), manifest);
    await refused(
      await restore(
        rig,
        restoreOf(1, {
          manifest: { sha256: hash(manifest), bytes: manifest.length },
          packs: [] as unknown,
        } as Packed),
      ),
    );
    await refused(await restore(rig, { version: 1 }));
  });

  test('to replace what is in the workspace, and moves all back', async () => {
    await writeFile(join(rig.workspace, 'b'), 'mine');
    const answer = await attempt(rig, [file('a'), file('b')], [good]);
    expect(answer.error).toMatchObject({ code: 'restore_failed', detail: expect.stringContaining('"b"') });
    expect(readdirSync(rig.workspace)).toEqual(['b']);
    expect(await readFile(join(rig.workspace, 'b'), 'utf8')).toBe('mine');
    rmSync(join(rig.workspace, 'b'));
  });

  test('nothing of a good one afterwards', async () => {
    const answer = await attempt(
      rig,
      [directory('a'), file('a/b'), { path: 'l', type: 'symlink', target: '../x' }],
      [good],
    );
    expect(answer.result).toEqual({ version: 1, files: 1, bytes: blob.length });
    expect(await readFile(join(rig.workspace, 'a/b'))).toEqual(blob);
  });
});

test('version 0 restores nothing and makes the workspace ready', async () => {
  await using rig = await Rig.start();
  expect((await restore(rig, { version: 0 })).result).toEqual({ version: 0, files: 0, bytes: 0 });
  expect((await rig.request('GET', '/health')).json().workspace).toEqual({ state: 'ready', version: 0 });
  expect((await long(rig, '/workspace/restore', { version: -1 })).error!.field).toBe('version');
});

test.skipIf(process.getuid!() !== 0)(
  'a hard link to a file of someone else is not saved (needs root)',
  async () => {
    await using rig = await Rig.start();
    const foreign = join(rig.dir, 'foreign');
    await writeFile(foreign, 'foreign');
    await chown(foreign, 4242, 4242);
    await mkdir(join(rig.workspace, 'd'));
    await link(foreign, join(rig.workspace, 'd/hard'));
    await symlink(foreign, join(rig.workspace, 'd/soft'));
    expect(await pack(rig)).toMatchObject({ files: 0, bytes: 0 });
  },
);

test('packs are gone with the next runs', async () => {
  await using rig = await Rig.start();
  for (let run = 0; run < 4; run += 1) {
    await writeFile(join(rig.workspace, 'f'), String(run));
    await pack(rig);
  }
  await until(() => readdirSync(join(rig.state, 'packs')).length === 2);
});
