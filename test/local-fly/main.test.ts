import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { temporaryFolder, token } from './harness.ts';

const main = fileURLToPath(new URL('../../local/fly/main.ts', import.meta.url));

interface Started {
  child: ChildProcess;
  ready: { url: string; engine: string; lacks: string[] };
  stderr: () => string;
  ended: Promise<number | null>;
}

function run(args: string[], env: Record<string, string> = { FLY_API_TOKEN: token }) {
  const child = spawn(process.execPath, [main, ...args], { env: { PATH: process.env.PATH, ...env } });
  onTestFinished(() => void child.kill('SIGKILL'));
  let stderr = '';
  child.stderr.on('data', (data) => {
    stderr += data;
  });
  const ended = once(child, 'close').then(([code]) => code as number | null);
  return { child, stderr: () => stderr, ended };
}

async function start(args: string[]): Promise<Started> {
  const started = run(args);
  const lines = createInterface({ input: started.child.stdout! });
  const line = await Promise.race([once(lines, 'line'), started.ended.then(() => [])]);
  if (!line[0]) throw new Error(`it ended before it was ready: ${started.stderr()}`);
  return { ...started, ready: JSON.parse(line[0]) };
}

function call({ ready }: Started, method: string, path: string, body?: unknown) {
  return fetch(ready.url + path, {
    method,
    headers: { authorization: `Bearer ${token}` },
    body: body ? JSON.stringify(body) : null,
  });
}

test.each([
  [[], { FLY_API_TOKEN: 't' }, '--state-dir is missing'],
  [['--state-dir', 'x'], {}, 'FLY_API_TOKEN is not set'],
  [['--state-dir', 'x', '--engine', 'magic'], { FLY_API_TOKEN: 't' }, '--engine: "magic"'],
  [['--state-dir', 'x', '--port', '70000'], { FLY_API_TOKEN: 't' }, '--port: "70000"'],
  [['--state-dir', 'x', '--host-port', '0'], { FLY_API_TOKEN: 't' }, '--host-port: "0"'],
  [['--state-dir', 'x', '--image', 'ref'], { FLY_API_TOKEN: 't' }, '--image: "ref"'],
  [['--token', 'secret'], { FLY_API_TOKEN: 't' }, '--token'],
])('%j with %j is a mistake that is named', async (args, env, words) => {
  const { ended, stderr } = run(args, env as Record<string, string>);
  expect(await ended).toBe(2);
  expect(stderr()).toContain(words);
});

describe('on the simulated engine', () => {
  test('tells its address, keeps its folder to itself, ends at SIGTERM', async () => {
    const stateDir = await temporaryFolder();
    const args = ['--state-dir', stateDir, '--engine', 'simulated'];
    const fly = await start(args);
    expect(fly.ready).toMatchObject({ ready: true, engine: 'simulated', lacks: [expect.any(String)] });
    expect((await call(fly, 'GET', '/v1/apps')).status).toBe(200);
    const second = run(args);
    expect(await second.ended).toBe(1);
    expect(second.stderr()).toContain(`in use by another local Fly (process ${fly.child.pid})`);
    fly.child.kill('SIGTERM');
    expect(await fly.ended).toBe(0);
    expect(fly.stderr()).not.toContain(token);
  });

  test('ends with the process it is tethered to', async () => {
    const fly = await start(['--state-dir', await temporaryFolder(), '--engine', 'simulated', '--tethered']);
    fly.child.stdin!.end();
    expect(await fly.ended).toBe(0);
  });

  test('after kill -9 it says what became of its machines', async () => {
    const args = ['--state-dir', await temporaryFolder(), '--engine', 'simulated'];
    const fly = await start(args);
    await call(fly, 'POST', '/v1/apps', { name: 'a1' });
    const created = await call(fly, 'POST', '/v1/apps/a1/machines', { config: { image: 'i' } });
    const { id } = (await created.json()) as { id: string };
    fly.child.kill('SIGKILL');
    await fly.ended;
    const again = await start(args);
    expect(again.stderr()).toContain(`Machine ${id}`);
    expect((await call(again, 'GET', `/v1/apps/a1/machines/${id}`)).status).toBe(200);
  });
});

describe('on the namespaces engine', () => {
  test('a real machine boots, runs a command, stops, and dies with local Fly', async (context) => {
    const folder = await temporaryFolder();
    const image = join(folder, 'image');
    await mkdir(image);
    const agent = `process.on('SIGTERM', () => process.exit(0)); setInterval(() => {}, 1000);`;
    await writeFile(join(image, 'agent.js'), agent);
    const args = ['--state-dir', join(folder, 'state'), '--image', `img:1=${image}`, '--no-rate-limits'];
    const fly = await start(args).catch((error: Error) => {
      if (/cannot start: (This host|Machines)/.test(error.message)) context.skip(error.message);
      throw error;
    });
    const config = { image: 'img:1', restart: { policy: 'no' }, stop_config: { signal: 'SIGTERM' } };
    await call(fly, 'POST', '/v1/apps', { name: 'a1' });
    const created = await call(fly, 'POST', '/v1/apps/a1/machines', { name: 'real', config });
    const { id } = (await created.json()) as { id: string };
    const machine = `/v1/apps/a1/machines/${id}`;
    expect((await call(fly, 'GET', `${machine}/wait`)).status).toBe(200);
    const exec = await call(fly, 'POST', `${machine}/exec`, {
      command: ['/bin/sh', '-c', 'echo $$; exit 3'],
    });
    expect(await exec.json()).toMatchObject({ exit_code: 3 });
    await call(fly, 'POST', `${machine}/stop`);
    expect((await call(fly, 'GET', `${machine}/wait?state=stopped`)).status).toBe(200);
    await call(fly, 'POST', `${machine}/start`);
    expect((await call(fly, 'GET', `${machine}/wait`)).status).toBe(200);

    fly.child.kill('SIGKILL');
    await fly.ended;
    const again = await start(args);
    expect(again.stderr()).toContain(
      `Machine ${id} (real, app a1) was started and died with local Fly (exit code 137)`,
    );
    expect((await call(again, 'DELETE', machine)).status).toBe(200);
    expect((await call(again, 'GET', `${machine}/wait?state=destroyed`)).status).toBe(200);
    again.child.kill('SIGTERM');
    expect(await again.ended).toBe(0);
  });
});
