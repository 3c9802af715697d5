import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RestoreRequest } from '../../../controller/agents/wire.ts';
import { Storage } from '../storage.ts';
import { long } from './long.ts';
import type { Packed } from './packing.ts';
import { Routed } from './routed.ts';

let storage: Storage;
beforeAll(async () => {
  storage = await Storage.start();
});
afterAll(() => storage[Symbol.asyncDispose]());

/** Saves some files, and says how they are restored as this version. */
async function saved(version: number): Promise<RestoreRequest> {
  await using routed = await Routed.start();
  mkdirSync(join(routed.tree, 'd'));
  for (const name of ['a', 'b', 'd/c']) writeFileSync(join(routed.tree, name), `${name} of ${version}`);
  const packed: Packed = (await long(routed, '/workspace/pack', { base: 0 })).result;
  const withUrl = <T extends { sha256: string }>(object: T) => ({
    ...object,
    url: storage.url(object.sha256),
  });
  const request = { version, manifest: withUrl(packed.manifest), packs: packed.packs.map(withUrl) };
  const urls = Object.fromEntries(
    [request.manifest, ...request.packs].map(({ sha256, url }) => [sha256, url]),
  );
  expect((await long(routed, '/workspace/upload', { pack_id: packed.pack_id, urls })).error).toBeUndefined();
  return request;
}

test('an agent that was started again knows the version that its workspace began with, and what has changed since', async () => {
  const request = await saved(7);
  await using routed = await Routed.start();
  const { result } = await long(routed, '/workspace/restore', request);
  expect(result).toMatchObject({ version: 7, files: 3 });
  const base = { base: 7, base_sha256: request.manifest!.sha256 };

  await routed.restart();
  expect(routed.workspace.state).toEqual({ state: 'ready', version: 7 });
  expect((await long(routed, '/workspace/restore', request)).result).toEqual(result);
  expect((await long(routed, '/workspace/restore', { version: 8 })).error!.code).toBe('restore_failed');
  expect((await routed.request('POST', '/workspace/unsaved', base)).json()).toEqual({
    base: 7,
    known: true,
    files: 0,
    bytes: 0,
    paths: [],
  });
  expect((await long(routed, '/workspace/pack', base)).result).toMatchObject({ changed: false });

  writeFileSync(join(routed.tree, 'd/new'), '12345');
  const unsaved = { base: 7, known: true, files: 1, bytes: 5, paths: ['d/new'] };
  expect((await routed.request('POST', '/workspace/unsaved', base)).json()).toEqual(unsaved);
  // Against one that it never saw everything counts; against none as well, but that is known.
  const other = { base: 8, base_sha256: '0'.repeat(64) };
  expect((await routed.request('POST', '/workspace/unsaved', other)).json()).toMatchObject({
    known: false,
    files: 4,
  });
  expect((await routed.request('POST', '/workspace/unsaved', { base: 0 })).json()).toMatchObject({
    known: true,
    files: 4,
  });
});

test('a session that begins with nothing is ready for a later agent, too', async () => {
  await using routed = await Routed.start();
  await long(routed, '/workspace/restore', { version: 0 });
  writeFileSync(join(routed.tree, 'work'), 'mine');
  await routed.restart();
  expect(routed.workspace.state).toEqual({ state: 'ready', version: 0 });
  expect(readFileSync(join(routed.tree, 'work'), 'utf8')).toBe('mine');
});

test('a restore that was cut off while it was moved in is undone, and done again from the beginning', async () => {
  const request = await saved(3);
  await using routed = await Routed.start();
  // What an agent leaves that ends in the middle of it.
  writeFileSync(
    join(routed.state, 'workspace.json'),
    JSON.stringify({ sandbox: 's-test-1', state: 'moving', version: 3 }),
  );
  writeFileSync(join(routed.tree, 'a'), 'half');
  mkdirSync(join(routed.tree, '.mobvibe.0123456789abcdef'));
  writeFileSync(join(routed.tree, '.mobvibe.0123456789abcdef', 'b'), 'half');
  await routed.restart();
  expect(routed.workspace.state).toEqual({ state: 'pristine' });
  expect(readdirSync(routed.tree)).toEqual([]);
  expect((await long(routed, '/workspace/restore', request)).result).toMatchObject({ version: 3, files: 3 });
  expect(readFileSync(join(routed.tree, 'a'), 'utf8')).toBe('a of 3');
});

test('a restore that fails leaves no marker: what is there is not taken for a part of it', async () => {
  const request = await saved(4);
  await using routed = await Routed.start();
  writeFileSync(join(routed.tree, 'b'), 'in the way');
  expect((await long(routed, '/workspace/restore', request)).error!.code).toBe('restore_failed');
  await routed.restart();
  expect(readFileSync(join(routed.tree, 'b'), 'utf8')).toBe('in the way');
});

test('the marker stands when the files are moved in, until the version is ready', async () => {
  const request = await saved(5);
  await using routed = await Routed.start();
  const marker = () => JSON.parse(readFileSync(join(routed.state, 'workspace.json'), 'utf8'));
  const { gate } = routed;
  const admit = gate.admit.bind(gate);
  let seen: unknown;
  gate.admit = async (work) => {
    const value = await admit(work);
    if (readdirSync(routed.tree).includes('a')) seen = marker();
    return value;
  };
  await long(routed, '/workspace/restore', request);
  expect(seen).toEqual({ sandbox: 's-test-1', state: 'moving', version: 5 });
  expect(marker()).toMatchObject({ state: 'ready', version: 5, files: 3 });
});

test('packs of a former agent are gone', async () => {
  await using routed = await Routed.start();
  writeFileSync(join(routed.tree, 'f'), 'x');
  await long(routed, '/workspace/pack', { base: 0 });
  expect(readdirSync(join(routed.state, 'packs'))).toHaveLength(1);
  await routed.restart();
  expect(readdirSync(join(routed.state, 'packs'))).toEqual([]);
});
