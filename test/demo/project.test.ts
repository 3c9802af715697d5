import { chmod, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { copyProject } from '../../local/demo/project.ts';
import { describeTree } from '../../local/demo/tree.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mobvibe-project-'));
  await chmod(folder, 0o755);
});
afterEach(() => rm(folder, { recursive: true }));

test('the project that the demo carries has every kind of path that could get lost on the way', async () => {
  await copyProject(folder);
  const lines = await describeTree(folder);
  expect(lines.filter((line) => line.startsWith('file ')).length).toBeGreaterThanOrEqual(30);
  expect(lines).toContainEqual(expect.stringMatching(/^file .* app\/\(tabs\)\/\[id\]\.tsx$/));
  expect(lines).toContainEqual(expect.stringMatching(/^file .* docs\/山歩き\.md$/));
  expect(lines).toContainEqual(expect.stringMatching(/^file 755 .* scripts\/check\.sh$/));
  expect(lines).toContain('link check.sh scripts/test');
  expect((await stat(join(folder, 'assets/.gitkeep'))).size).toBe(0);
  expect((await readFile(join(folder, 'assets/icon.png'))).subarray(0, 8)).toEqual(
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
  );
});
