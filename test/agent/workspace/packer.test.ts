import { randomBytes } from 'node:crypto';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Manifest } from '../../../controller/agents/wire.ts';
import { Beneath } from '../../../image/agent/files/beneath.ts';
import { decodeManifest } from '../../../image/agent/workspace/manifest.ts';
import { Packer, type PackerParts } from '../../../image/agent/workspace/pack.ts';
import { PackWriter } from '../../../image/agent/workspace/pack-writer.ts';
import { Versions } from '../../../image/agent/workspace/versions.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'packer-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function partsOf(tree: string): PackerParts {
  return {
    tree: new Beneath(tree),
    dir: join(dir, 'packs'),
    session: 'test',
    uid: process.getuid!(),
    versions: new Versions(mkdtempSync(join(dir, 'versions-')), 'test'),
    quiet: async (work) => ({ value: await work(), atomic: true, pausedMs: 0 }),
    now: Date.now,
  };
}

/** Packs a workspace in which `meddle` changes files after the walk, while the first of them is being hashed. */
async function packMeanwhile(
  files: Record<string, string>,
  meddle: (tree: string) => void,
): Promise<Manifest> {
  const tree = mkdtempSync(join(dir, 'tree-'));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(tree, name), text);
  let looked = false;
  const now = () => {
    if (!looked) meddle(tree);
    looked = true;
    return Date.now();
  };
  const packer = new Packer({ ...partsOf(tree), now });
  const packed = await packer.pack({ base: 0 });
  if (!packed.changed) throw new Error('nothing was packed');
  const { dir: at } = packer.spool(packed.pack_id);
  return decodeManifest(readFileSync(join(at, packed.manifest.sha256)), 'test');
}

test('files that are emptied between the walk and their hash are saved as empty', async () => {
  const manifest = await packMeanwhile({ a: 'first', b: 'second', c: 'third' }, (tree) => {
    for (const name of ['a', 'b', 'c']) truncateSync(join(tree, name));
  });
  for (const entry of manifest.entries) expect(entry).toMatchObject({ type: 'file', size: 0 });
  expect(manifest.packs).toEqual([]);
});

test('a file that becomes a copy of another between the walk and its hash has the size of what is saved', async () => {
  const manifest = await packMeanwhile({ a: 'the longer text', b: 'short' }, (tree) =>
    writeFileSync(join(tree, 'b'), 'the longer text'),
  );
  expect(manifest.entries).toMatchObject([{ size: 15 }, { size: 15 }]);
});

test('a full disk fails the pack with its own word, wherever it is met, and harms nothing else', async () => {
  symlinkSync('/dev/full', join(dir, 'writing'));
  for (const blobs of [1, 100]) {
    const writer = new PackWriter(dir);
    const write = async () => {
      for (let blob = 0; blob < blobs; blob += 1)
        await writer.add('0'.repeat(64), 100_000, randomBytes(100_000));
      await writer.finish();
    };
    await expect(write()).rejects.toMatchObject({ code: 'ENOSPC' });
    await writer.abandon();
  }
});

test('a blob that ends early fails the pack instead of spoiling it', async () => {
  const writer = new PackWriter(dir);
  const short = async function* () {
    yield Buffer.from('short');
  };
  await expect(writer.add('0'.repeat(64), 6, short())).rejects.toThrow('Size mismatch');
  await writer.abandon();
});

test('a run that nobody waits for any more ends, and leaves nothing', async () => {
  const tree = mkdtempSync(join(dir, 'tree-'));
  for (const name of ['a', 'b', 'c']) writeFileSync(join(tree, name), name);
  // At each of the places where it asks.
  for (let place = 1; place <= 7; place += 1) {
    const packs = join(dir, `packs-${place}`);
    mkdirSync(packs);
    const packer = new Packer({ ...partsOf(tree), dir: packs });
    let asked = 0;
    const stillWanted = () => {
      asked += 1;
      if (asked === place) throw new Error('taken back');
    };
    const gone = packer.pack({ base: 0 }, { stillWanted, progress: () => {} });
    await expect(gone).rejects.toThrow('taken back');
    expect(readdirSync(packs)).toEqual([]);
    expect(await packer.pack({ base: 0 })).toMatchObject({ files: 3 });
  }
});
