import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
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
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { AgentHub } from '../../../controller/agents/hub.ts';
import { agentToken } from '../../../controller/agents/token.ts';
import { LANE_HEADER } from '../../../controller/agents/wire.ts';
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

test('a tar travels on a lane, whose length nobody knows before, and its end tells that it is whole', async () => {
  const secret = 'a-secret-of-at-least-32-characters';
  await using rig = await Rig.idle();
  const hub = new AgentHub({
    secret,
    liveSandbox: async () => ({ incarnation: 1, app: 'cell' }),
    log: pino({ level: 'silent' }),
  });
  const server = createServer();
  server.on('upgrade', (request, socket, head) => hub.handleUpgrade(request, socket, head));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    hub.close();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  rig.launch({
    MOBVIBE_AGENT_DIAL_URL: `ws://127.0.0.1:${port}/v1/agent`,
    MOBVIBE_AGENT_TOKEN: agentToken(secret, 's-test-1'),
  });
  const link = await hub.waitFor('s-test-1', { timeoutMs: 30_000 });
  writeFileSync(join(rig.workspace, 'large'), randomBytes(9_000_000));
  const ask = () => link.request({ method: 'GET', path: '/workspace/tar', lane: true });
  const reply = await ask();
  expect([reply.status, reply.headers[LANE_HEADER], reply.length]).toEqual([200, '?', undefined]);
  const to = folder();
  execFileSync('tar', ['-xpf', '-', '-C', to], { input: await buffer(reply.body) });
  expect(snapshot(to)).toEqual(snapshot(rig.workspace));

  writeFileSync(join(rig.workspace, 'large'), Buffer.alloc(80 << 20));
  const broken = await ask();
  await expect(async () => {
    for await (const _piece of broken.body) truncateSync(join(rig.workspace, 'large'), 0);
  }).rejects.toThrow();
});
