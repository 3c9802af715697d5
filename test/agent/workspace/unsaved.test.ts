import { expect, test } from 'vitest';
import type { ManifestEntry } from '../../../controller/agents/wire.ts';
import { differenceOf } from '../../../image/agent/workspace/difference.ts';

const file = (path: string, more = {}): ManifestEntry => ({
  path,
  type: 'file',
  mode: 0o644,
  mtime_ms: 1,
  size: 10,
  sha256: 'a',
  ...more,
});
const folder = (path: string, more = {}): ManifestEntry => ({
  path,
  type: 'directory',
  mode: 0o755,
  mtime_ms: 1,
  ...more,
});
const link = (path: string, target: string): ManifestEntry => ({ path, type: 'symlink', target });
const difference = (before: ManifestEntry[], now: ManifestEntry[]) =>
  differenceOf(new Map(before.map((entry) => [entry.path, entry])), now);

test('counts what changed, what is new and what is gone', () => {
  const before = [
    file('same'),
    file('content'),
    file('mode'),
    file('time'),
    file('gone'),
    link('l', 'a'),
    link('m', 'a'),
  ];
  const now = [
    file('same', { pack: 3 }),
    file('content', { sha256: 'b', size: 20 }),
    file('mode', { mode: 0o755 }),
    file('time', { mtime_ms: 2 }),
    link('l', 'b'),
    link('m', 'a'),
    file('new'),
  ];
  expect(difference(before, now)).toEqual({
    files: 6,
    bytes: 50,
    paths: ['content', 'mode', 'time', 'l', 'new', 'gone'],
  });
  expect(difference(now, now)).toEqual({ files: 0, bytes: 0, paths: [] });
});

test('a folder counts by itself only, not for what is in it', () => {
  expect(difference([folder('d')], [folder('d', { mtime_ms: 2 }), file('d/f')]).paths).toEqual(['d/f']);
  expect(difference([], [folder('a'), folder('a/b'), folder('a/b/c')]).paths).toEqual(['a/b/c']);
  expect(difference([folder('d')], [folder('d', { mode: 0o700 })]).paths).toEqual(['d']);
  expect(difference([folder('x')], [file('x')])).toMatchObject({ files: 1, bytes: 10 });
});

test('names the first twenty', () => {
  const { files, paths } = difference(
    [],
    Array.from({ length: 30 }, (_, n) => file(`f${n}`)),
  );
  expect([files, paths.length]).toEqual([30, 20]);
});
