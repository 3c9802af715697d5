import { execFileSync } from 'node:child_process';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { Beneath } from '../../../image/agent/files/beneath.ts';
import { tarOf } from '../../../image/agent/workspace/tar.ts';
import { Rig } from '../rig.ts';

const TREE = `
mkdir -p 'app/(tabs)' empty deep/er node_modules/x
echo 'export default 1' > 'app/(tabs)/[id].tsx'; printf x > 'ünïcode 😀'; : > nothing; echo lost > node_modules/x/y
printf '#!/bin/sh\\n' > run.sh; chmod 755 run.sh; chmod 400 nothing; chmod 500 empty; echo one > one; ln one deep/hard
ln -s run.sh link; ln -s /etc/passwd absolute; head -c 6000000 /dev/urandom > large; mkfifo fifo
long=$(printf 'n%.0s' $(seq 200)); mkdir -p $long/$long; echo long > $long/$long/$long
touch -d '2001-02-03 04:05:06.789' one; touch -d '1999-01-01' deep`;

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'tar-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function snapshot(dir: string): unknown[] {
  const names = readdirSync(dir, { recursive: true, encoding: 'utf8' }).toSorted();
  return names
    .filter((name) => !/^(node_modules|fifo)/.test(name))
    .map((name) => {
      const stat = lstatSync(join(dir, name));
      if (stat.isSymbolicLink()) return [name, readlinkSync(join(dir, name))];
      const mtime = Math.trunc(stat.mtimeMs);
      return [name, stat.mode, mtime, stat.isFile() && readFileSync(join(dir, name)).toString('base64')];
    });
}

test('everything that a save would hold comes out, and tar unpacks it: modes, times, links, empty folders, long names', async () => {
  await using rig = await Rig.start();
  await rig.run('make', TREE);
  const answer = await rig.request('GET', '/workspace/tar');
  expect([answer.status, answer.headers['content-type']]).toEqual([200, 'application/x-tar']);
  const to = folder();
  execFileSync('tar', ['-xpf', '-', '-C', to], { input: answer.body });
  expect(snapshot(to)).toEqual(snapshot(rig.workspace));
  expect(readdirSync(to)).not.toContain('node_modules');
});

test('a large file that gets shorter while it is read breaks the tar off', async () => {
  const dir = folder();
  mkdirSync(join(dir, 'tree'));
  writeFileSync(join(dir, 'tree', 'large'), Buffer.alloc(40 << 20));
  const tar = tarOf(new Beneath(join(dir, 'tree')), process.getuid!());
  await expect(async () => {
    for await (const _piece of tar) truncateSync(join(dir, 'tree', 'large'), 0);
  }).rejects.toThrow('became shorter');
});
