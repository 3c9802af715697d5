import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Files } from '../../client/files.ts';
import { MobVibe, type Session } from '../../client/index.ts';
import { getTree } from '../../client/tree.ts';
import type { FileStat } from '../../controller/agents/wire.ts';
import { API_KEY, Harness } from '../api/support/harness.ts';

let harness: Harness;
let mobvibe: MobVibe;
let session: Session;
let local: string;

beforeEach(async () => {
  harness = await Harness.start();
  mobvibe = new MobVibe({ url: harness.url, apiKey: API_KEY });
  session = await mobvibe.sessions.create({ id: 'demo' });
  local = await mkdtemp(join(tmpdir(), 'mobvibe-files-'));
});

afterEach(async () => {
  mobvibe.close();
  await harness.close();
  await rm(local, { recursive: true, force: true });
});

test('the whole life of a file', async () => {
  const { files } = session;
  expect(await files.exists('docs/größe (1).txt')).toBe(false);
  await files.write('docs/größe (1).txt', 'one', { mode: 0o640 });
  expect(await files.stat('docs/größe (1).txt')).toMatchObject({ type: 'file', size: 3, mode: 0o640 });
  await files.move('docs/größe (1).txt', 'docs/b.txt');
  await files.symlink('docs/link', 'b.txt');
  await files.mkdir('docs/empty');
  const names = (await files.list('docs')).map(({ path, type, target }) => [path, type, target]);
  expect(names).toEqual([
    ['docs/b.txt', 'file', undefined],
    ['docs/empty', 'directory', undefined],
    ['docs/link', 'symlink', 'b.txt'],
  ]);
  expect(await files.readText('docs/b.txt')).toBe('one');
  await files.remove('docs', { recursive: true });
  expect(await files.exists('docs/b.txt')).toBe(false);
});

async function makeTree(root: string): Promise<void> {
  await mkdir(join(root, 'app/(tabs)'), { recursive: true });
  await mkdir(join(root, 'nothing/in here'), { recursive: true });
  await writeFile(join(root, 'app/(tabs)/[id].tsx'), 'export default 1;\n');
  await writeFile(join(root, 'naïve ☕.txt'), 'ü');
  await writeFile(join(root, 'empty'), '');
  await writeFile(join(root, 'binary'), Buffer.from([0, 255, 10, 13, 128]));
  await writeFile(join(root, 'run.sh'), '#!/bin/sh\n');
  await chmod(join(root, 'run.sh'), 0o755);
  await writeFile(join(root, 'big'), Buffer.alloc(3_000_000, 'x'));
  await symlink('run.sh', join(root, 'start'));
  await symlink('nowhere', join(root, 'dangling'));
}

async function describeTree(root: string): Promise<Record<string, unknown>> {
  const all: Record<string, unknown> = {};
  for (const name of (await readdir(root, { recursive: true })).sort()) {
    const path = join(root, name);
    const stats = await lstat(path);
    const mode = stats.mode & 0o777;
    if (stats.isDirectory()) all[name] = 'directory';
    else if (stats.isSymbolicLink()) all[name] = { link: await readlink(path) };
    else all[name] = { mode, content: (await readFile(path)).toString('base64') };
  }
  return all;
}

describe('whole folders', () => {
  test('go there and back with modes, links, odd names and empty folders', async () => {
    await makeTree(join(local, 'in'));
    const put = await session.files.putTree(join(local, 'in'), 'project');
    expect(put).toMatchObject({ files: 6, symlinks: 2, directories: 4 });
    const got = await session.files.getTree('project', join(local, 'out'));
    expect(got).toEqual(put);
    expect(await describeTree(join(local, 'out'))).toEqual(await describeTree(join(local, 'in')));
  });

  test('can be put again over what is there, with links that point elsewhere now', async () => {
    await makeTree(join(local, 'in'));
    await session.files.putTree(join(local, 'in'));
    await rm(join(local, 'in/start'));
    await symlink('empty', join(local, 'in/start'));
    await session.files.putTree(join(local, 'in'));
    expect((await session.files.stat('start')).target).toBe('empty');
  });

  test('leave out what is to be ignored, with all below it', async () => {
    await makeTree(join(local, 'in'));
    const seen: string[] = [];
    await session.files.putTree(join(local, 'in'), '.', {
      ignore: (path) => path === 'app' || path.endsWith('.sh'),
      onFile: (path) => seen.push(path),
    });
    expect(seen.sort()).toEqual(['big', 'binary', 'empty', 'naïve ☕.txt']);
  });

  test('a folder that is not there is named', async () => {
    await expect(session.files.putTree(join(local, 'missing'))).rejects.toMatchObject({
      code: 'local_file',
      detail: expect.stringContaining('missing'),
    });
  });
});

/** A sandbox that lists what it likes. */
const lying = (stats: Partial<FileStat>[]) =>
  ({
    list: async () => stats.map((stat) => ({ size: 1, mode: 0o644, mtime_ms: 0, type: 'file', ...stat })),
    readStream: async () => Readable.from([Buffer.from('pwned')]),
  }) as unknown as Files;

describe('a folder that was copied out before', () => {
  test('can be copied out again, over links and read-only files', async () => {
    await makeTree(join(local, 'in'));
    await chmod(join(local, 'in/run.sh'), 0o555);
    await session.files.putTree(join(local, 'in'), 'project');
    await session.files.getTree('project', join(local, 'out'));
    await rm(join(local, 'in/start'));
    await symlink('empty', join(local, 'in/start'));
    await session.files.putTree(join(local, 'in'), 'project');
    await session.files.getTree('project', join(local, 'out'));
    expect(await describeTree(join(local, 'out'))).toEqual(await describeTree(join(local, 'in')));
  });

  test('has no link through which the next copy writes elsewhere', async () => {
    await mkdir(join(local, 'home'));
    await writeFile(join(local, 'home/.profile'), 'mine');
    const copyOut = (...stats: Partial<FileStat>[]) => getTree(lying(stats), '.', join(local, 'out'), {});
    await copyOut(
      { path: 'file', type: 'symlink', target: join(local, 'home/.profile') },
      { path: 'door', type: 'symlink', target: join(local, 'home') },
    );
    await copyOut({ path: 'file' });
    expect(await readFile(join(local, 'out/file'), 'utf8')).toBe('pwned');
    const through = [
      [{ path: 'door/.profile' }],
      [{ path: 'door', type: 'directory', mode: 0o755 }, { path: 'door/.profile' }],
    ] as const;
    for (const stats of through) {
      await expect(copyOut(...stats)).rejects.toMatchObject({
        code: 'local_file',
        detail: expect.stringContaining('door is not a folder'),
      });
    }
    expect(await readFile(join(local, 'home/.profile'), 'utf8')).toBe('mine');
  });

  test('does not bring a set-uid file', async () => {
    await getTree(lying([{ path: 'su', mode: 0o4755 }]), '.', join(local, 'out'), {});
    expect((await lstat(join(local, 'out/su'))).mode & 0o7777).toBe(0o755);
  });

  test('given up on the way says aborted', async () => {
    await makeTree(join(local, 'in'));
    const signal = AbortSignal.abort();
    await expect(session.files.putTree(join(local, 'in'), '.', { signal })).rejects.toMatchObject({
      code: 'aborted',
    });
  });
});

describe('a sandbox that lies about its files', () => {
  test.each([['../evil'], ['a/../../evil'], ['/etc/evil']])('can not have %s written', async (path) => {
    await expect(getTree(lying([{ path }]), '.', join(local, 'out'), {})).rejects.toMatchObject({
      code: 'invalid_answer',
    });
    expect(await readdir(local)).toEqual([]);
  });

  test('can not have a file written through a link', async () => {
    await mkdir(join(local, 'outside'));
    const stats = [
      { path: 'door', type: 'symlink', target: '../outside' },
      { path: 'door', type: 'directory', mode: 0o755 },
      { path: 'door/evil' },
    ] as const;
    await expect(getTree(lying([...stats]), '.', join(local, 'out'), {})).rejects.toThrow();
    expect(await readdir(join(local, 'outside'))).toEqual([]);
  });
});
