import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { freePort } from '../../local/stack/port.ts';
import { SECRET, World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterAll(() => world.end());

interface Started {
  child: ChildProcess;
  /** Resolves with the first line on stdout. */
  line: Promise<string>;
  exit: Promise<number | null>;
  stderr: () => string;
}

function run(script: string, args: string[], env: Record<string, string>): Started {
  const path = fileURLToPath(new URL(`../../controller/${script}`, import.meta.url));
  const child = spawn(process.execPath, [path, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  let stderr = '';
  child.stderr.on('data', (chunk) => (stderr += chunk));
  return {
    child,
    line: once(createInterface(child.stdout), 'line').then(([line]) => line as string),
    exit: once(child, 'exit').then(([code]) => code as number | null),
    stderr: () => stderr,
  };
}

async function settings(): Promise<Record<string, string>> {
  const app = await world.app();
  const socket = join(world.dir, `${app}.sock`);
  return {
    FLY_API_TOKEN: 'local-token',
    FLY_APP_NAME: app,
    MOBVIBE_STACK: app,
    FLY_FLAPS_BASE_URL: world.fly.url,
    SUPABASE_URL: world.supabase.url,
    SUPABASE_SERVICE_ROLE_KEY: world.supabase.secretKey,
    MOBVIBE_AGENT_SECRET: SECRET,
    MOBVIBE_SANDBOX_IMAGE: 'sandbox:1',
    MOBVIBE_AGENT_DIAL_URL: `ws+unix:${socket}:/v1/agent`,
    MOBVIBE_AGENT_LISTEN_SOCKET: socket,
    MOBVIBE_LISTEN_PORT: '0',
  };
}

async function addKey(env: Record<string, string>): Promise<string> {
  const { line, exit } = run('keys.ts', ['add', 'a test'], env);
  const key = await line;
  expect(await exit).toBe(0);
  return key;
}

describe('node controller/main.ts', () => {
  it('says on one line that it is ready, serves, drains at SIGTERM and leaves sandboxes running', async () => {
    const env = await settings();
    const key = await addKey(env);
    const { child, line, exit, stderr } = run('main.ts', [], env);
    const ready = JSON.parse(await line);
    expect(ready).toEqual({ ready: true, url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/) });

    const created = await fetch(`${ready.url}/v1/sessions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: '{"id":"process"}',
    });
    expect(created.status).toBe(201);
    expect(await created.json()).toMatchObject({ id: 'process', status: 'ready' });
    child.kill('SIGTERM');
    expect(await exit).toBe(0);
    expect(await world.live(env.FLY_APP_NAME!)).toMatchObject([{ name: 's-process-1', state: 'started' }]);
    for (const secret of [env.FLY_API_TOKEN!, env.SUPABASE_SERVICE_ROLE_KEY!, SECRET, key]) {
      expect(stderr()).not.toContain(secret);
    }
  });

  it('answers what is under way at SIGTERM, and is not held up by the connection that is kept', async () => {
    const env = await settings();
    const key = await addKey(env);
    const { child, line, exit } = run('main.ts', [], env);
    const { url } = JSON.parse(await line);
    const created = fetch(`${url}/v1/sessions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: '{"id":"last"}',
    });
    await world.until(() => world.boots.includes('s-last-1'));
    child.kill('SIGTERM');
    expect((await created).status).toBe(201);
    expect(await exit).toBe(0);
  });

  it('is forced by a second signal', async () => {
    const env = await settings();
    world.mute.add('s-stuck-1');
    const key = await addKey(env);
    const { child, line, exit, stderr } = run('main.ts', [], env);
    const { url } = JSON.parse(await line);
    await fetch(`${url}/v1/sessions?wait_ms=0`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: '{"id":"stuck"}',
    });
    await world.until(() => world.boots.includes('s-stuck-1'));
    child.kill('SIGTERM');
    await world.until(() => stderr().includes('shutting down'));
    child.kill('SIGTERM');
    expect(await exit).toBe(130);
  });

  it('does not start with a bad setting, and names it', async () => {
    const { exit, stderr } = run('main.ts', [], { ...(await settings()), MOBVIBE_CPUS: 'many' });
    expect(await exit).toBe(1);
    expect(stderr()).toMatch(/^MOBVIBE_CPUS is "many"/);
  });

  it('leaves the agents of a controller that runs already alone', async () => {
    const env = await settings();
    const first = await world.controller(env.FLY_APP_NAME!);
    await first.manager.createSandbox({ sessionId: 'first' });
    const { exit, stderr } = run('main.ts', [], { ...env, MOBVIBE_LISTEN_PORT: new URL(first.url).port });
    expect(await exit).toBe(1);
    expect(stderr()).toContain('EADDRINUSE');
    const { agent } = world.running('s-first-1');
    const cut = first.hub.get('s-first-1');
    agent.cut();
    await world.until(() => first.hub.get('s-first-1') !== cut && first.hub.get('s-first-1')?.connected);
    await world.closeAll();
  });

  it('has a port for agents alone: a sandbox comes in by it, the API is not there', async () => {
    const port = await freePort();
    const controller = await world.controller(await world.app(), {
      env: {
        MOBVIBE_AGENT_LISTEN_PORT: String(port),
        MOBVIBE_AGENT_DIAL_URL: `ws://127.0.0.1:${port}/v1/agent`,
      },
    });
    await controller.manager.createSandbox({ sessionId: 'by-port' });
    expect(controller.hub.get('s-by-port-1')?.connected).toBe(true);
    for (const path of ['/v1/sessions', '/healthz', '/v1/agent']) {
      expect((await fetch(`http://127.0.0.1:${port}${path}`)).status).toBe(404);
    }
    await world.closeAll();
    await expect(fetch(`http://127.0.0.1:${port}/`)).rejects.toThrow();
  });

  it('says why it can’t listen', async () => {
    const { exit, stderr } = run('main.ts', [], {
      ...(await settings()),
      MOBVIBE_LISTEN_HOST: '203.0.113.1',
    });
    expect(await exit).toBe(1);
    expect(stderr()).toContain('203.0.113.1');
  });
});

describe('node controller/keys.ts', () => {
  it('prints a key once and stores its hash alone', async () => {
    const key = await addKey(await settings());
    expect(key).toMatch(/^mvk_[A-Za-z0-9_-]{43}$/);
    const sha256 = createHash('sha256').update(key).digest('hex');
    expect(await world.store.checkApiKey(sha256)).toMatchObject({ name: 'a test' });
    expect(await world.store.checkApiKey('0'.repeat(64))).toBeNull();
  });

  it.each([[[]], [['add']], [['remove', 'x']]])('explains itself when called as %j', async (args) => {
    const { exit, stderr } = run('keys.ts', args, await settings());
    expect(await exit).toBe(1);
    expect(stderr()).toContain('usage: node controller/keys.ts add NAME');
  });
});
