import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mv-'));
  // As /tmp itself is: other users, machines among them, walk through it.
  await chmod(folder, 0o711);
});
afterEach(() => rm(folder, { recursive: true, force: true }));

test.each([
  ['while the stack comes up', 'local Supabase ', 'SIGTERM'],
  ['while files are written', '3/8', 'SIGINT'],
  ['while a session is opened again', '6/8', 'SIGHUP'],
] as const)('interrupted %s, the demo leaves nothing and blames nobody', async (_when, marker, signal) => {
  const demo = spawn(process.execPath, ['local/demo/main.ts'], {
    env: { ...process.env, TMPDIR: folder },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const hear = (data: Buffer) => {
    const seen = output.includes(marker);
    output += data;
    if (!seen && output.includes(marker)) demo.kill(signal);
  };
  demo.stdout.on('data', hear);
  demo.stderr.on('data', hear);
  const [code] = await once(demo, 'close');
  expect(output).toContain(`${signal}: cleaning up`);
  expect(output).not.toMatch(/failed|Error|Last lines/);
  expect(code).toBe(130);
  expect(await readdir(folder)).toEqual([]);
});
