import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { SupabaseClient } from '@supabase/supabase-js';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { clientFor, makeStateDir, startProject } from './project.ts';

const MAIN = fileURLToPath(new URL('../../local/supabase/main.ts', import.meta.url));

interface Started {
  child: ChildProcess;
  url: string;
  secretKey: string;
  client: SupabaseClient;
  /** What the ready line holds. */
  line: Record<string, unknown>;
}

/** One for all: each test finds what the one before left, the killed ones too. */
let stateDir: string;
let children: ChildProcess[];
beforeAll(async () => {
  stateDir = await makeStateDir();
});
afterAll(() => rm(stateDir, { recursive: true, force: true }));
beforeEach(() => {
  children = [];
});
afterEach(async () => {
  for (const child of children) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
  }
});

function launch(...args: string[]): ChildProcess {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
  children.push(child);
  return child;
}

async function start(...args: string[]): Promise<Started> {
  const child = launch('--state-dir', stateDir, '--throw-away', ...args);
  child.stderr!.resume();
  const lines = createInterface({ input: child.stdout! });
  const [text] = (await Promise.race([
    once(lines, 'line'),
    once(child, 'exit').then(() => {
      throw new Error('it ended before it was ready');
    }),
  ])) as [string];
  const line = JSON.parse(text) as { ready: boolean; url: string; secretKeyFile: string };
  const secretKey = (await readFile(line.secretKeyFile, 'utf8')).trim();
  return { child, url: line.url, secretKey, client: clientFor(line.url, secretKey), line: { ...line } };
}

/** Of the Postgres in the state directory. */
async function postmasterPid(): Promise<number> {
  const file = await readFile(join(stateDir, 'postgres', 'cluster', 'postmaster.pid'), 'utf8');
  return Number(file.split('\n')[0]);
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test('one line says that it is ready and where its secrets are, not the secrets', async () => {
  const { line, secretKey, client } = await start();
  expect(line).toEqual({
    ready: true,
    url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
    secretKeyFile: expect.any(String),
    dbUrlFile: expect.any(String),
  });
  const dbUrlFile = String(line.dbUrlFile);
  const dbUrl = (await readFile(dbUrlFile, 'utf8')).trim();
  expect((await stat(dbUrlFile)).mode & 0o777).toBe(0o600);
  for (const secret of [secretKey, new URL(dbUrl).password])
    expect(JSON.stringify(line)).not.toContain(secret);
  // The real migrations: the bucket and a table of the controller.
  expect((await client.storage.getBucket('workspaces')).error).toBeNull();
  expect((await client.from('coding_sessions').select('id')).data).toEqual([]);
});

test('a restart keeps keys, rows, objects and signed URLs', async () => {
  const first = await start();
  await first.client.rpc('api_key_add', { p_id: 'k1', p_name: 'mine', p_sha256: 'a'.repeat(64) });
  const bucket = first.client.storage.from('workspaces');
  await bucket.upload('kept', 'bytes');
  const signed = new URL((await bucket.createSignedUrl('kept', 3600)).data!.signedUrl);
  first.child.kill('SIGTERM');
  expect((await once(first.child, 'exit'))[0]).toBe(0);

  const second = await start('--port', new URL(first.url).port);
  expect([second.url, second.secretKey]).toEqual([first.url, first.secretKey]);
  expect((await second.client.rpc('api_key_check', { p_sha256: 'a'.repeat(64) })).data).toEqual([
    { id: 'k1', name: 'mine' },
  ]);
  expect(await (await fetch(signed)).text()).toBe('bytes');
});

test('it ends when the one who started it is gone, and takes Postgres along', async () => {
  const { child } = await start('--tethered');
  const pid = await postmasterPid();
  child.stdin!.end();
  expect((await once(child, 'exit'))[0]).toBe(0);
  expect(alive(pid)).toBe(false);
});

test('killed while an upload comes in: no Postgres stays, and the next start finds nothing of the upload', async () => {
  const { child, url, secretKey } = await start();
  const pid = await postmasterPid();
  const upload = request(`${url}/storage/v1/object/workspaces/half`, {
    method: 'POST',
    headers: { apikey: secretKey, 'content-length': 5_000_000 },
  });
  upload.on('error', () => {});
  upload.write(Buffer.alloc(2_000_000));
  const incoming = join(stateDir, 'storage', 'incoming');
  await vi.waitFor(async () => expect(await readdir(incoming)).toHaveLength(1), { timeout: 10_000 });
  child.kill('SIGKILL');
  await once(child, 'exit');
  await vi.waitFor(() => expect(alive(pid)).toBe(false), { timeout: 20_000 });

  const next = await start();
  expect(await readdir(incoming)).toEqual([]);
  expect((await next.client.storage.from('workspaces').exists('half')).data).toBe(false);
});

test('Postgres dead: an error while it lasts, and the process ends by itself', async () => {
  const { child } = await start();
  process.kill(await postmasterPid(), 'SIGKILL');
  expect((await once(child, 'exit'))[0]).toBe(1);
});

test('Postgres stopped behind a gateway: 503 for functions and 500 for files, never a hang', async () => {
  const project = await startProject();
  try {
    process.kill(
      Number(
        (await readFile(join(project.stateDir, 'postgres', 'cluster', 'postmaster.pid'), 'utf8')).split(
          '\n',
        )[0],
      ),
      'SIGINT',
    );
    await project.supabase.exited;
    expect(await project.service.rpc('add', { a: 1, b: 2 })).toMatchObject({
      status: 503,
      error: { code: expect.stringMatching(/^PGRST00/) },
    });
    expect((await project.service.storage.getBucket('x')).error).toMatchObject({ status: 500 });
  } finally {
    await project.close();
  }
});

test.each([
  [[], /--state-dir is missing/],
  [['--state-dir', '/tmp/x', '--port', '70000'], /--port 70000 is no port number/],
  [['--unknown'], /--unknown/],
])('%j is refused with a reason', async (args, message) => {
  const child = launch(...args);
  let output = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const [code] = await once(child, 'close');
  expect(code).not.toBe(0);
  expect(output).toMatch(message);
});
