import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { chmod, chown, link, lstat, mkdir, readFile, readlink, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { FileStat } from '../../../controller/agents/wire.ts';
import { Rig, until } from '../rig.ts';
import { long } from '../workspace/long.ts';

let rig: Rig;
let outside: string;

beforeAll(async () => {
  rig = await Rig.start();
  outside = mkdtempSync(join(tmpdir(), 'agent-outside-'));
  await writeFile(join(outside, 'secret'), 'secret');
});
afterAll(async () => {
  await rig[Symbol.asyncDispose]();
  rmSync(outside, { recursive: true });
});
beforeEach(() => {
  for (const name of readdirSync(rig.workspace)) rmSync(at(name), { recursive: true });
});

const at = (path: string) => join(rig.workspace, path);
const query = (path: string) => `path=${encodeURIComponent(path)}`;
const put = (path: string, body: string | Buffer, more = '') =>
  rig.request('PUT', `/files?${query(path)}${more}`, body);
const get = (path: string, more = '') => rig.request('GET', `/files?${query(path)}${more}`);
const list = async (path: string, more = ''): Promise<FileStat[]> =>
  (await rig.request('GET', `/files/list?${query(path)}${more}`)).body
    .toString()
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line));

describe('write and read', () => {
  test('bytes come back, with parents made and the stat told', async () => {
    const bytes = Buffer.from(Array.from({ length: 70_000 }, (_, i) => (i * 7) % 256));
    const written = await put('app/(tabs)/[id] ü😀.tsx', bytes);
    expect(written.status).toBe(200);
    expect(written.json()).toMatchObject({
      path: 'app/(tabs)/[id] ü😀.tsx',
      type: 'file',
      size: 70_000,
      mode: 0o644,
      mtime_ms: expect.any(Number),
    });
    const read = await get('app/(tabs)/[id] ü😀.tsx');
    expect(read.body.equals(bytes)).toBe(true);
    expect(JSON.parse(decodeURIComponent(String(read.headers['x-mobvibe-stat'])))).toEqual(written.json());
    expect((await get('app/(tabs)/[id] ü😀.tsx', '&offset=69990')).body).toEqual(bytes.subarray(69_990));
    expect((await get('app/(tabs)/[id] ü😀.tsx', '&offset=3&length=4')).body).toEqual(bytes.subarray(3, 7));
    expect((await get('app/(tabs)/[id] ü😀.tsx', '&offset=100000')).body.length).toBe(0);
  });

  test('an empty file, an absolute path, a mode', async () => {
    expect((await put('empty', '')).json()).toMatchObject({ size: 0 });
    expect((await get('empty')).body.length).toBe(0);
    expect((await put(at('run.sh'), '#!', '&mode=755')).json()).toMatchObject({
      path: 'run.sh',
      mode: 0o755,
    });
    // Replaced without a mode it keeps the one it has.
    expect((await put('run.sh', '#!/bin/sh')).json()).toMatchObject({ mode: 0o755 });
    expect((await put('run.sh', '', '&mode=9')).json()).toMatchObject({
      code: 'invalid_request',
      field: 'mode',
    });
    expect((await get('run.sh', '&offset=-1')).json()).toMatchObject({
      code: 'invalid_request',
      field: 'offset',
    });
  });

  test('a reader of the old file keeps it; a broken upload leaves it and nothing else', async () => {
    await put('file', 'old');
    const before = (await lstat(at('file'))).ino;
    const upload = await rig.open('PUT', `/files?${query('file')}`);
    upload.write(Buffer.alloc(1 << 20));
    await until(() => readdirSync(rig.workspace).length === 2);
    expect(await list('')).toHaveLength(1);
    await rig.cut();
    await until(() => readdirSync(rig.workspace).length === 1);
    expect(await readFile(at('file'), 'utf8')).toBe('old');
    expect((await lstat(at('file'))).ino).toBe(before);
  });

  test('an upload that its sender takes back is not taken for a whole one', async () => {
    const upload = await rig.open('PUT', `/files?${query('file')}`, { 'content-length': 2 << 20 });
    upload.write(Buffer.alloc(1 << 20));
    await until(() => readdirSync(rig.workspace).length === 1);
    upload.close(8);
    await until(() => readdirSync(rig.workspace).length === 0);
  });

  test('a body shorter than was said is refused', async () => {
    const upload = await rig.open('PUT', `/files?${query('file')}`, { 'content-length': 10 });
    upload.end('12345');
    await new Promise((resolve) => upload.once('close', resolve));
    expect((await get('file')).json().code).toBe('file_not_found');
  });

  test('a large file goes both ways whole', async () => {
    const bytes = Buffer.alloc(48 << 20, 'The quick brown fox. ');
    expect((await put('large', bytes)).json().size).toBe(bytes.length);
    expect((await get('large')).body.equals(bytes)).toBe(true);
  });
});

describe('the tree', () => {
  test('is listed sorted by the bytes of the path', async () => {
    const names = ['b', 'a.b', 'a/x', 'a/b/c', 'a-', 'ü', '\u{1f600}', '\uffee', 'Z'];
    for (const name of names) await put(name, '');
    const paths = (await list('', '&recursive=1')).map(({ path }) => path);
    expect(paths).toEqual(
      [...names, 'a', 'a/b'].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))),
    );
    expect((await list('a')).map(({ path, type }) => [path, type])).toEqual([
      ['a/b', 'directory'],
      ['a/x', 'file'],
    ]);
  });

  test('symlinks are told, not followed, by stat and list', async () => {
    await mkdir(at('dir'));
    expect(
      (await rig.request('POST', '/files/symlink', { path: 'link', target: 'dir' })).json(),
    ).toMatchObject({
      path: 'link',
      type: 'symlink',
      target: 'dir',
    });
    expect((await rig.request('GET', `/files/stat?${query('link')}`)).json().type).toBe('symlink');
    expect((await list('', '&recursive=1')).map(({ path, target }) => [path, target])).toEqual([
      ['dir', undefined],
      ['link', 'dir'],
    ]);
    expect((await rig.request('POST', '/files/symlink', { path: 'link', target: 'x' })).json().code).toBe(
      'file_exists',
    );
  });

  test('a symlink that stays inside is followed by read and write, and stays', async () => {
    await mkdir(at('a/b'), { recursive: true });
    await writeFile(at('a/target'), 'old');
    await symlink('../target', at('a/b/link'));
    await symlink(at('a/b'), at('absolute'));
    expect((await get('absolute/link')).body.toString()).toBe('old');
    expect((await put('absolute/link', 'new')).json()).toMatchObject({ path: 'a/target' });
    expect(await readFile(at('a/target'), 'utf8')).toBe('new');
    expect(await readlink(at('a/b/link'))).toBe('../target');
  });

  test('mkdir, move and remove', async () => {
    const post = (what: string, body: unknown) => rig.request('POST', `/files/${what}`, body);
    const remove = async (path: string, more = '') => rig.request('DELETE', `/files?${query(path)}${more}`);
    expect((await post('mkdir', { path: 'x/y/z' })).json()).toMatchObject({
      path: 'x/y/z',
      type: 'directory',
    });
    expect((await post('mkdir', { path: 'x/y/z' })).status).toBe(200);
    await put('x/y/z/f', 'f');
    expect((await post('move', { from: 'x/y', to: 'w' })).json()).toMatchObject({
      path: 'w',
      type: 'directory',
    });
    expect((await get('w/z/f')).body.toString()).toBe('f');
    expect((await remove('w')).json().code).toBe('directory_not_empty');
    expect((await remove('w', '&recursive=1')).status).toBe(204);
    expect((await remove('w')).json().code).toBe('file_not_found');
    expect((await remove('x')).status).toBe(204);
  });

  test.each([
    ['GET', '/files?path=none', 'file_not_found'],
    ['GET', '/files?path=none/x', 'file_not_found'],
    ['GET', '/files?path=file/x', 'not_a_directory'],
    ['GET', '/files?path=dir', 'not_a_file'],
    ['GET', '/files?path=fifo', 'not_a_file'],
    ['GET', '/files/stat?path=none', 'file_not_found'],
    ['GET', '/files/list?path=none', 'file_not_found'],
    ['GET', '/files/list?path=file', 'not_a_directory'],
    ['PUT', '/files?path=dir', 'not_a_file'],
    ['PUT', '/files?path=fifo', 'not_a_file'],
    ['PUT', '/files?path=file/x', 'not_a_directory'],
    ['PUT', '/files?path=', 'invalid_path'],
    ['PUT', '/files?path=.', 'invalid_path'],
    ['PUT', '/files', 'invalid_path'],
    ['DELETE', '/files?path=/&recursive=1', 'path_outside'],
    ['DELETE', '/files?path=.&recursive=1', 'invalid_path'],
    ['GET', '/files?path=a%00b', 'invalid_path'],
    ['GET', '/files?path=loop', 'invalid_path'],
    ['GET', '/files/stat?path=loop/x', 'invalid_path'],
  ])('%s %s is %s', async (method, path, code) => {
    await rig.run(
      `f${path.length}${code}${method}${Math.floor(performance.now() * 1000)}`,
      'mkdir dir; touch file; mkfifo fifo; ln -s loop loop',
    );
    const answer = await rig.request(method, path, method === 'PUT' ? 'x' : undefined);
    expect(answer.json()).toMatchObject({ code, detail: expect.any(String) });
  });
});

test('a tree deeper than a path can be long is listed and saved as far as paths go, and removed whole', async () => {
  const name = 'deep'.repeat(10);
  const make = `for (1..3000) { mkdir "${name}"; chdir "${name}" or exit 9 }`;
  expect((await rig.run('deep', { command: ['perl', '-e', make] })).end?.result).toEqual({
    kind: 'exited',
    code: 0,
  });
  const packed = await long(rig, '/workspace/pack', { base: 0 });
  expect(packed.result).toMatchObject({ changed: true, files: 0 });
  const paths = (await list('', '&recursive=1')).map(({ path }) => path.length);
  expect([paths.length, paths.at(-1)]).toEqual([97, 97 * 41 - 1]);
  expect((await rig.request('DELETE', `/files?path=${name}&recursive=1`)).status).toBe(204);
  expect((await get(name)).json().code).toBe('file_not_found');
});

test('names and paths longer than the kernel takes', async () => {
  expect((await put('n'.repeat(256), '')).json().code).toBe('invalid_path');
  expect((await get('d/'.repeat(2100))).json().code).toBe('invalid_path');
});

describe('ways out', () => {
  const everyWay = async (path: string) => {
    const codes = await Promise.all([
      get(path),
      put(path, 'x'),
      rig.request('GET', `/files/list?${query(path)}`),
      rig.request('POST', '/files/mkdir', { path: `${path}/new/er` }),
      rig.request('POST', '/files/move', { from: 'mine', to: `${path}/stolen` }),
      rig.request('POST', '/files/move', { from: `${path}/secret`, to: 'stolen' }),
      rig.request('DELETE', `/files?${query(`${path}/secret`)}&recursive=1`),
      rig.request('POST', '/files/symlink', { path: `${path}/link`, target: 'x' }),
    ]);
    return codes.map((answer) => answer.json().code);
  };
  const all = Array(8).fill('path_outside');

  test('..', async () => {
    await put('mine', '');
    for (const path of ['..', 'a/../..', '../workspace/../x', 'mine/../../x', './../x', '/..']) {
      await mkdir(at('a'), { recursive: true });
      expect(await everyWay(path), path).toEqual(all);
    }
    expect((await put('a/../inside', 'x')).json().path).toBe('inside');
  });

  test('absolute paths, also one that only begins like the workspace', async () => {
    expect(await everyWay(outside)).toEqual(all);
    expect(await everyWay(`${rig.workspace}-2`)).toEqual(all);
    expect(await everyWay(`${rig.workspace}/../x`)).toEqual(all);
  });

  test('symlinks, direct, relative, chained and below', async () => {
    await put('mine', '');
    await symlink(outside, at('direct'));
    await symlink('../../../../../../../..', at('relative'));
    await symlink('direct', at('chained'));
    for (const path of ['direct', 'relative', 'chained', 'direct/deeper', 'chained/../direct']) {
      expect(await everyWay(path), path).toEqual(all);
    }
    expect(await readFile(join(outside, 'secret'), 'utf8')).toBe('secret');
    expect(readdirSync(outside)).toEqual(['secret']);
    // The link itself is the user's own.
    expect((await rig.request('DELETE', `/files?${query('direct')}&recursive=1`)).status).toBe(204);
    expect(readdirSync(outside)).toEqual(['secret']);
  });

  test('a recursive remove takes links, not what they lead to', async () => {
    await mkdir(at('dir'));
    await symlink(outside, at('dir/out'));
    expect((await rig.request('DELETE', `/files?${query('dir')}&recursive=1`)).status).toBe(204);
    expect(readdirSync(outside)).toEqual(['secret']);
  });

  test('a write never goes through a hard link', async () => {
    await link(join(outside, 'secret'), at('hard'));
    expect((await put('hard', 'x')).status).toBe(200);
    expect(await readFile(join(outside, 'secret'), 'utf8')).toBe('secret');
  });

  test.skipIf(process.getuid!() !== 0)(
    'a hard link to a file of someone else is not read (needs root)',
    async () => {
      const foreign = join(outside, 'foreign');
      await writeFile(foreign, 'foreign');
      await chown(foreign, 4242, 4242);
      await link(foreign, at('hard'));
      expect((await get('hard')).json().code).toBe('path_outside');
      rmSync(foreign);
    },
  );

  test('a directory swapped for a symlink again and again is never followed out', async () => {
    await mkdir(at('swap'));
    await writeFile(at('swap/secret'), 'inside');
    const command = `while :; do rm -rf swap; ln -s ${outside} swap; rm -f swap; mkdir -p swap; echo inside > swap/secret; done`;
    const exec = `swap${Math.floor(performance.now())}`;
    await rig.request('PUT', `/execs/${exec}`, { command });
    let outsideAnswers = 0;
    for (let round = 0; round < 300; round += 1) {
      const [read, written, removed] = await Promise.all([
        get('swap/secret'),
        put('swap/new', 'x'),
        rig.request('DELETE', `/files?${query('swap/secret')}&recursive=1`),
      ]);
      expect(read.body.toString()).not.toBe('secret');
      for (const answer of [read, written, removed]) {
        if (answer.status === 403) outsideAnswers += 1;
      }
    }
    await rig.request('POST', `/execs/${exec}/signal`, { signal: 'SIGKILL' });
    expect(readdirSync(outside)).toEqual(['secret']);
    // Otherwise the swap never met a request, and nothing was shown.
    expect(outsideAnswers).toBeGreaterThan(0);
  });

  test('a recursive remove while directories turn into symlinks stays inside', async () => {
    for (let round = 0; round < 20; round += 1) {
      await mkdir(at('tree/deep'), { recursive: true });
      for (let file = 0; file < 20; file += 1) await writeFile(at(`tree/deep/${file}`), '');
      const removing = rig.request('DELETE', `/files?${query('tree')}&recursive=1`);
      await symlink(outside, at('tree/evil')).catch(() => {});
      await removing;
      rmSync(at('tree'), { recursive: true, force: true });
    }
    expect(readdirSync(outside)).toEqual(['secret']);
  });
});

test.skipIf(process.getuid!() !== 0)(
  'a full disk is said so, and leaves nothing behind (needs root: a small tmpfs)',
  async (ctx) => {
    await mkdir(at('small'));
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', at('small')]);
    if (mounted.status !== 0) ctx.skip('a tmpfs cannot be mounted here');
    try {
      const answer = await put('small/file', Buffer.alloc(4 << 20));
      expect([answer.status, answer.json().code]).toEqual([507, 'disk_full']);
      expect(readdirSync(at('small'))).toEqual([]);
    } finally {
      spawnSync('umount', [at('small')]);
    }
  },
);

test('modes of directories do not stop the owner', async () => {
  await put('dir/file', 'x');
  await chmod(at('dir'), 0o700);
  expect((await list('dir')).map(({ path }) => path)).toEqual(['dir/file']);
});
