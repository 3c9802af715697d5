import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { Closing } from '../../controller/closing.ts';
import { HangingProxy } from './hanging-proxy.ts';
import { newKey } from './key.ts';
import { SECRET, World } from './world.ts';

const LIMIT_MS = 2_000;
/** On top of a limit, for a computer that is busy; far below what the calls that hang would take. */
const MARGIN_MS = 5_000;

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.closeAll());
afterAll(() => world.end());

interface Loaded {
  child: ChildProcess;
  app: string;
  database: HangingProxy;
  url: string;
  key: string;
  call: (path: string, init?: RequestInit) => Promise<Response>;
  /** Sends SIGTERM; how it ended, and after how long. */
  end(): Promise<{ code: number | null; ms: number; unfinished: string[] }>;
}

/** A controller in a process of its own that follows a job, streams its output, and waits for a call to its database that may hang. */
async function loaded(id: string, limitMs = LIMIT_MS): Promise<Loaded> {
  const app = await world.app();
  const socket = join(world.dir, `${app}.sock`);
  const database = await HangingProxy.to(world.supabase.url);
  onTestFinished(() => database.close());
  const script = fileURLToPath(new URL('../../controller/main.ts', import.meta.url));
  const child = spawn(process.execPath, [script], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      FLY_API_TOKEN: 'local-token',
      FLY_APP_NAME: app,
      MOBVIBE_STACK: app,
      FLY_FLAPS_BASE_URL: world.fly.url,
      SUPABASE_URL: database.url,
      SUPABASE_SERVICE_ROLE_KEY: world.supabase.secretKey,
      MOBVIBE_AGENT_SECRET: SECRET,
      MOBVIBE_SANDBOX_IMAGE: 'sandbox:1',
      MOBVIBE_AGENT_DIAL_URL: `ws+unix:${socket}:/v1/agent`,
      MOBVIBE_AGENT_LISTEN_SOCKET: socket,
      MOBVIBE_LISTEN_PORT: '0',
      MOBVIBE_JOB_POLL_MS: '50',
      MOBVIBE_SAVE_INTERVAL_MS: '1000',
      MOBVIBE_SHUTDOWN_TIMEOUT_MS: String(limitMs),
    },
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  let stderr = '';
  child.stderr.on('data', (chunk) => (stderr += chunk));
  const [line] = await once(createInterface(child.stdout), 'line');
  const { url } = JSON.parse(line as string) as { url: string };
  const key = await newKey(world.store);
  const call = (path: string, init: RequestInit = {}) =>
    fetch(url + path, {
      ...init,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    });

  expect((await call('/v1/sessions', { method: 'POST', body: JSON.stringify({ id }) })).status).toBe(201);
  const spec = { command: 'wait' };
  await world.store.enqueueJob({ id: `job-${id}`, sessionId: id, spec, maxAttempts: 3, actor: 'test' });
  const { inside } = world.running(`s-${id}-1`);
  await world.until(() => inside.execs.has(`job-job-${id}-1`));
  const logs = await call(`/v1/jobs/job-${id}/logs?follow=1`);
  expect(logs.status).toBe(200);
  logs.text().catch(() => undefined);

  const end = async () => {
    const exit = once(child, 'close');
    const began = performance.now();
    child.kill('SIGTERM');
    const [code] = (await exit) as [number | null];
    const ms = performance.now() - began;
    const lines = stderr.split('\n').filter((text) => text.startsWith('{'));
    const last = lines.map((text) => JSON.parse(text)).findLast((entry) => entry.unfinished !== undefined);
    return { code, ms, unfinished: (last?.unfinished ?? []) as string[] };
  };
  return { child, app, database, call, url, key, end };
}

/** A gate that never opens. */
const never = (): Promise<void> => new Promise(() => {});

/** Sends the beginning of a file, and no more; resolves when the controller has it. */
async function beginUpload(url: string, key: string, id: string): Promise<void> {
  const upload = request(`${url}/v1/sessions/${id}/files?path=large.bin`, {
    method: 'PUT',
    headers: {
      authorization: `Bearer ${key}`,
      'content-type': 'application/octet-stream',
      'content-length': 100_000,
      // Answered when the request has been let in.
      expect: '100-continue',
    },
  });
  upload.on('error', () => {});
  onTestFinished(() => void upload.destroy());
  upload.flushHeaders();
  await once(upload, 'continue');
  upload.write('the beginning');
}

describe('SIGTERM under load', () => {
  it('is orderly where everything answers: work is handed over, streams are cut', async () => {
    const { end, app } = await loaded('orderly', 6_000);
    expect(await end()).toMatchObject({ code: 0, unfinished: [] });
    expect(await world.cells(app)).toMatchObject([{ holder: null }]);
    const job = await world.store.getJob('job-orderly');
    expect(Date.parse(job.lease_until!)).toBeLessThanOrEqual(Date.now());
  });

  it('keeps its limit with agents that hang and an upload that does not end, and gives back what others wait for', async () => {
    const { end, app, call, url, key } = await loaded('slow', 6_000);
    world.onBoot = (_name, inside) => void inside.gates.set('/workspace/restore', never());
    const { inside } = world.running('s-slow-1');
    inside.gates.set('/workspace/pack', never());
    await call('/v1/sessions?wait_ms=0', { method: 'POST', body: '{"id":"slower"}' });
    await world.until(() =>
      world.machines.get('s-slower-1')?.inside.requests.includes('POST /workspace/restore'),
    );
    await world.until(() => inside.requests.includes('POST /workspace/pack'));
    await beginUpload(url, key, 'slow');
    const { code, ms, unfinished } = await end();
    expect(ms).toBeLessThan(6_000 + MARGIN_MS);
    expect(code).toBe(unfinished.length === 0 ? 0 : 1);
    expect(unfinished).not.toContain('giving back cells');
    expect(await world.cells(app)).toMatchObject([{ holder: null }]);
  });

  it('keeps its limit with a database that hangs', async () => {
    const { end, database, url, key } = await loaded('deaf');
    await beginUpload(url, key, 'deaf');
    database.hang();
    const { code, ms, unfinished } = await end();
    expect(code).toBe(1);
    expect(ms).toBeLessThan(LIMIT_MS + MARGIN_MS);
    expect(unfinished).toContain('handing over jobs');
    expect(unfinished).toContain('giving back cells');
  });
});

describe('Closing', () => {
  const silent = pino({ level: 'silent' });

  it.each([
    [30_000, { grace: 25_000, giving: 29_000, ends: 30_000 }],
    [3_000, { grace: 2_000, giving: 2_800, ends: 3_000 }],
    // Nothing is waited for, though what is handed over has a moment.
    [0, { grace: 0, giving: 700, ends: 750 }],
  ])('divides %d ms', (limitMs, { grace, giving, ends }) => {
    const closing = new Closing(limitMs, () => 7, silent);
    expect(closing.graceMs).toBe(grace);
    expect(closing.leftMs(closing.givingEndsAt)).toBe(giving);
    expect(closing.leftMs(closing.endsAt)).toBe(ends);
  });

  it('gives each step what is left, and names those that it did not wait for', async () => {
    let now = 0;
    const closing = new Closing(1_000, () => now, silent);
    await closing.step('quick', closing.workEndsAt, async () => undefined);
    await closing.step('failing', closing.workEndsAt, async () => {
      throw new Error('no');
    });
    expect(closing.unfinished).toEqual([]);
    now = 1_000;
    let finish: () => void = () => undefined;
    await closing.step('slow', closing.endsAt, () => new Promise<void>((resolve) => (finish = resolve)));
    expect(closing.unfinished).toEqual(['slow']);
    finish();
    await setImmediate();
    expect(closing.unfinished).toEqual(['slow']);
  });
});
