import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { describeTree, treeDifference } from '../../local/demo/tree.ts';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'mobvibe-tree-'));
  await mkdir(join(root, 'a'));
  await writeFile(join(root, 'a', 'file'), 'content');
  await symlink('a/file', join(root, 'link'));
});
afterEach(() => rm(root, { recursive: true }));

test.each([
  ['a byte', () => writeFile(join(root, 'a', 'file'), 'Content')],
  ['a mode', () => chmod(join(root, 'a', 'file'), 0o755)],
  ['a new path', () => writeFile(join(root, 'new'), '')],
  ['a lost path', () => rm(join(root, 'a', 'file'))],
  ['a link', () => rm(join(root, 'link')).then(() => symlink('a', join(root, 'link')))],
  [
    'a file instead of a link',
    () => rm(join(root, 'link')).then(() => writeFile(join(root, 'link'), 'content')),
  ],
])('%s makes a difference', async (_what, change) => {
  const before = await describeTree(root);
  expect(treeDifference(before, await describeTree(root))).toEqual([]);
  await change();
  expect(treeDifference(before, await describeTree(root))).not.toEqual([]);
});
