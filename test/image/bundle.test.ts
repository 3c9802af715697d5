import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, expect, test } from 'vitest';
import { writeControllerContext, writeSandboxContext } from '../../image/bundle.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'context-test-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** All below a folder: mode, time and bytes of files, mode of folders. */
function tree(dir: string): Record<string, string> {
  const names = readdirSync(dir, { recursive: true, encoding: 'utf8' }).sort();
  return Object.fromEntries(
    names.map((name) => {
      const stat = statSync(join(dir, name));
      const mode = (stat.mode & 0o7777).toString(8);
      if (stat.isDirectory()) return [name, mode];
      return [name, `${mode} ${stat.mtimeMs} ${readFileSync(join(dir, name), 'latin1')}`];
    }),
  );
}

test.each([
  ['sandbox', writeSandboxContext],
  ['controller', writeControllerContext],
] as const)('the context of the %s is the same each time, whatever the umask', (name, write) => {
  const before = process.umask(0o077);
  write(join(scratch, `${name}-a`));
  process.umask(0o002);
  write(join(scratch, `${name}-b`));
  process.umask(before);
  const first = tree(join(scratch, `${name}-a`));
  expect(tree(join(scratch, `${name}-b`))).toEqual(first);
  write(join(scratch, `${name}-a`));
  expect(tree(join(scratch, `${name}-a`))).toEqual(first);
  expect(first.Dockerfile).toMatch(/^644 0 #/);
  expect(Object.values(first).filter((text) => text.includes(ROOT))).toEqual([]);
});

test('a folder with other things in it is refused, and stays as it is', () => {
  const dir = join(scratch, 'mine');
  mkdirSync(dir);
  writeFileSync(join(dir, 'thesis.txt'), 'two years of work');
  expect(() => writeSandboxContext(dir)).toThrow(`${dir} is no build context of ours: it holds "thesis.txt"`);
  expect(readdirSync(dir)).toEqual(['thesis.txt']);
});

test('a Node of the caller goes along, and is gone when none is given', () => {
  const node = join(scratch, 'own-node');
  mkdirSync(join(node, 'bin'), { recursive: true });
  writeFileSync(join(node, 'bin/node'), 'a program', { mode: 0o755 });
  const dir = join(scratch, 'with-node');
  writeSandboxContext(dir, { node });
  expect(readFileSync(join(dir, 'node/bin/node'), 'utf8')).toBe('a program');
  expect(statSync(join(dir, 'node/bin/node')).mode & 0o777).toBe(0o755);
  writeSandboxContext(dir);
  expect(readdirSync(join(dir, 'node'))).toEqual([]);
});

test.each([
  ['controller.js', 'FLY_API_TOKEN is not set'],
  ['egress.js', 'MOBVIBE_'],
])('%s runs from its one file, far from any node_modules', async (file, complaint) => {
  const dir = join(scratch, 'programs');
  writeControllerContext(dir);
  const run = promisify(execFile)(process.execPath, [join(dir, file)], { cwd: dir, env: {} });
  await expect(run).rejects.toMatchObject({ stderr: expect.stringContaining(complaint) });
  await expect(run).rejects.not.toMatchObject({ stderr: expect.stringContaining('Cannot find module') });
});
