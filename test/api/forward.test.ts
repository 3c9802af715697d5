import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:http';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import type { ExecEvent } from '../../controller/api/schemas.ts';
import { API_KEY, Harness, REVOKED_KEY } from './support/harness.ts';

/** Two controllers: requests arrive at `front`, the sandbox of `demo` is `back`'s. */
let front: Harness;
let back: Harness;
/** Where `front` takes the sessions to be. */
let at: string | null;
/** How long it takes it to find out. */
let found: Promise<void> | undefined;
const asked: [session: string, starts: boolean][] = [];
const servers: Server[] = [];

beforeEach(async () => {
  back = await Harness.start((deps) => ({
    ...deps,
    // As if it thought the same of the other: a request must not go in circles.
    elsewhere: async () => front.url,
  }));
  front = await Harness.start((deps) => ({
    ...deps,
    elsewhere: async (session, starts) => {
      asked.push([session, starts]);
      await found;
      return at;
    },
  }));
  await back.fake.open('demo');
  at = back.url;
  found = undefined;
  asked.length = 0;
});
afterEach(async () => {
  await Promise.all([front.close(), back.close()]);
  for (const server of servers.splice(0)) server.close();
});

const NDJSON = { accept: 'application/x-ndjson' };
const events = async (answer: Pick<Response, 'text'>): Promise<ExecEvent[]> =>
  (await answer.text())
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

/** A server on loopback that says that it is there, and does with each other request what the test wants. */
async function tcp(onRequest: (socket: Socket) => void): Promise<string> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', (data) => {
      if (!data.toString('latin1').startsWith('GET /healthz')) return onRequest(socket);
      socket.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}');
    });
  }).listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe('a request about a session of another controller', () => {
  test('is answered by that one as if it had been asked: status, headers, stream', async () => {
    const put = { method: 'PUT', body: JSON.stringify({ command: 'echo hi; exit 5' }), headers: NDJSON };
    const answer = await front.fetch('/v1/sessions/demo/execs/e1', put);
    expect(answer.status).toBe(201);
    expect(answer.headers.get('content-type')).toContain('application/x-ndjson');
    const seen = await events(answer);
    expect(seen[0]).toMatchObject({ type: 'start', id: 'e1', incarnation: 1 });
    expect(seen.at(-1)).toMatchObject({ type: 'end', result: { kind: 'exited', code: 5 } });
    expect(await front.json('/v1/sessions/demo/execs/nothing')).toMatchObject({ code: 'exec_not_found' });
    expect(asked).toEqual([
      ['demo', false],
      ['demo', false],
    ]);
  });

  test('streams while it lasts, and ends there when the client leaves', async () => {
    const put = { method: 'PUT', body: JSON.stringify({ command: 'echo first; sleep 60' }), headers: NDJSON };
    const leave = new AbortController();
    const answer = await front.fetch('/v1/sessions/demo/execs/e1', { ...put, signal: leave.signal });
    const reader = (answer as unknown as Response).body!.getReader();
    let text = '';
    while (!text.includes('"stdout"')) text += Buffer.from((await reader.read()).value!).toString();
    const agent = back.fake.agent('demo');
    expect(agent.openStreams).toBe(1);
    leave.abort();
    await expect.poll(() => agent.openStreams).toBe(0);
  });

  test('takes and gives large bodies as they are', async () => {
    const content = randomBytes(8 * 1024 * 1024);
    const wrote = await front.fetch('/v1/sessions/demo/files?path=big', { method: 'PUT', body: content });
    expect(wrote.status).toBe(200);
    const read = await front.fetch('/v1/sessions/demo/files?path=big');
    expect(read.headers.get('content-length')).toBe(String(content.length));
    expect(Buffer.from(await read.arrayBuffer()).equals(content)).toBe(true);
  });

  test('goes with the caller’s own key, which the other checks as well', async () => {
    const before = back.fake.keyChecks;
    expect((await front.fetch('/v1/sessions/demo/execs')).status).toBe(200);
    expect(back.fake.keyChecks).toBe(before + 1);
    const headers = { authorization: `Bearer ${REVOKED_KEY}` };
    expect((await front.fetch('/v1/sessions/demo/execs', { headers })).status).toBe(401);
    expect(asked).toHaveLength(1);
  });

  test('is not asked about where the database can answer, nor sent on twice', async () => {
    expect((await front.fetch('/v1/sessions/demo')).status).toBe(404);
    expect((await front.fetch('/v1/sessions/demo/events')).status).toBe(404);
    expect(asked).toEqual([]);
    // `back` would send it to `front`, which would send it back.
    expect((await front.fetch('/v1/sessions/demo/execs')).status).toBe(200);
    expect(asked).toHaveLength(1);
  });

  test('that starts a sandbox says so, and a create is sent on with the id that was chosen here', async () => {
    expect((await front.fetch('/v1/sessions/demo/open', { method: 'POST' })).status).toBe(200);
    const create = { method: 'POST', headers: { 'idempotency-key': 'k' } };
    const made = await front.json('/v1/sessions', { ...create, body: '{"region":"ams"}' });
    expect([...back.fake.sessions.keys()]).toEqual(['demo', made.id]);
    expect((await front.fetch('/v1/sessions', { ...create, body: '{"region":"ams"}' })).status).toBe(200);
    expect(asked).toEqual([
      ['demo', true],
      [made.id, true],
      [made.id, true],
    ]);
  });

  test('that stops tells how, and a workspace comes through as a stream', async () => {
    const left = new AbortController();
    const body = new Readable({ read: () => {} });
    back.fake.rescue = () => body;
    expect(await front.json('/v1/sessions/demo/unsaved')).toMatchObject({ files: 2 });
    body.push('the first of it');
    const tar = await front.fetch('/v1/sessions/demo/rescue', { signal: left.signal });
    const { value } = await (tar as unknown as Response).body!.getReader().read();
    expect([tar.headers.get('content-type'), String(Buffer.from(value!))]).toEqual([
      ...['application/x-tar', 'the first of it'],
    ]);
    left.abort();
    await expect.poll(() => body.destroyed).toBe(true);
    const how = { method: 'POST', body: JSON.stringify({ grace_ms: 7 }) };
    expect((await front.fetch('/v1/sessions/demo/stop', how)).status).toBe(200);
    expect(back.fake.asked).toEqual([{ graceMs: 7 }]);
  });

  test('is answered here where no other is known', async () => {
    at = null;
    await front.fake.open('demo');
    expect((await front.fetch('/v1/sessions/demo/execs')).status).toBe(200);
  });
});

describe('a controller that can’t be reached', () => {
  const stop = () => front.fetch('/v1/sessions/demo/stop', { method: 'POST' });

  test('refuses: nothing happened, try again', async () => {
    at = await tcp(() => {});
    const server = servers.pop()!;
    server.close();
    await once(server, 'close');
    for (const answer of [await stop(), await front.fetch('/v1/sessions/demo/execs')]) {
      expect([answer.status, await answer.json()]).toMatchObject([
        503,
        { code: 'cell_elsewhere', kind: 'fault' },
      ]);
    }
  });

  test('does not take the connection in time', async () => {
    // A process that stands still and whose queue of connections is full: the kernel lets the next one wait.
    const script = `const s = require('node:net').createServer().listen(0, '127.0.0.1', 1, () => console.log(s.address().port))`;
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    onTestFinished(() => void child.kill('SIGKILL'));
    const [port] = await once(child.stdout, 'data');
    child.kill('SIGSTOP');
    const queue = Array.from({ length: 8 }, () => connect(Number(port), '127.0.0.1').on('error', () => {}));
    onTestFinished(() => {
      for (const socket of queue) socket.destroy();
    });
    await expect.poll(() => queue.filter((socket) => !socket.connecting).length).toBeGreaterThanOrEqual(2);
    at = `http://127.0.0.1:${Number(port)}`;
    const answer = await stop();
    expect([answer.status, await answer.json()]).toMatchObject([503, { code: 'cell_elsewhere' }]);
  });

  test.each([
    ['POST', '/v1/sessions/demo/stop', 502, 'cell_lost', 'unknown'],
    ['GET', '/v1/sessions/demo/execs', 503, 'cell_elsewhere', 'fault'],
  ])('breaks off: %s may have happened or not', async (method, path, status, code, kind) => {
    at = await tcp((socket) => socket.destroy());
    const answer = await front.fetch(path, { method });
    expect([answer.status, await answer.json()]).toMatchObject([status, { code, kind }]);
  });

  test('breaks off within its answer: that is not taken for whole', async () => {
    at = await tcp((socket) => {
      socket.write(
        'HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: 10\r\n\r\nhalf',
      );
      setImmediate(() => socket.destroy());
    });
    const answer = await front.fetch('/v1/sessions/demo/files?path=x');
    expect(answer.status).toBe(200);
    await expect(answer.arrayBuffer()).rejects.toThrow();
  });
});

describe('a controller that stands still', () => {
  /** A process of its own that can be frozen. It answers every request but `/healthz` as the header `do` says, and tells of each. */
  async function freezable() {
    const script = `
      const server = require('node:http').createServer((request, response) => {
        if (request.url === '/healthz') return response.end('{}');
        request.on('error', () => {});
        console.log(request.method);
        if (request.headers.do === 'stream') {
          response.writeHead(200, { 'content-type': 'application/x-ndjson' });
          response.write('{}\\n');
        } else if (request.headers.do === 'late') setTimeout(() => response.end('late'), 9_000);
        else request.resume();
      }).listen(0, '127.0.0.1', () => console.log(server.address().port));`;
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    onTestFinished(() => void child.kill('SIGKILL'));
    const lines: string[] = [];
    createInterface(child.stdout).on('line', (line) => lines.push(line));
    await expect.poll(() => lines.length).toBe(1);
    at = `http://127.0.0.1:${lines.shift()}`;
    return { freeze: () => child.kill('SIGSTOP'), thaw: () => child.kill('SIGCONT'), got: lines };
  }
  /** A request on the wire there, and frozen. */
  async function frozenUnder(method: string, path: string, init: RequestInit = {}) {
    const peer = await freezable();
    const asking = front.fetch(path, { ...init, method });
    asking.catch(() => {});
    await expect.poll(() => peer.got).toEqual([method]);
    peer.freeze();
    return { asking, began: performance.now() };
  }
  const STOP = '/v1/sessions/demo/stop';
  const EXECS = '/v1/sessions/demo/execs';

  test('is sent nothing: refused within 5 s, and to be asked again', async () => {
    const peer = await freezable();
    peer.freeze();
    const began = performance.now();
    const answers = await Promise.all([front.fetch(STOP, { method: 'POST' }), front.fetch(EXECS)]);
    expect(performance.now() - began).toBeLessThan(10_000);
    for (const answer of answers) {
      expect([answer.status, await answer.json()]).toMatchObject([
        503,
        { code: 'cell_elsewhere', kind: 'fault', retry_after_ms: expect.any(Number) },
      ]);
    }
    peer.thaw();
    const wanted = front.fetch(STOP, { method: 'POST' }).catch(() => {});
    // The first that it ever sees.
    await expect.poll(() => peer.got).toEqual(['POST']);
    front.cutClients();
    await wanted;
  }, 20_000);

  test.each([
    ['POST', STOP, {}, 502, 'cell_lost'],
    ['GET', EXECS, {}, 503, 'cell_elsewhere'],
    ['PUT', '/v1/sessions/demo/files?path=x', { body: Buffer.alloc(32 * 1024 * 1024) }, 502, 'cell_lost'],
  ])(
    'while %s %s waits: that ends',
    async (method, path, init, status, code) => {
      const { asking, began } = await frozenUnder(method, path, init);
      const answer = await asking;
      expect([answer.status, await answer.json()]).toMatchObject([status, { code }]);
      expect(performance.now() - began).toBeLessThan(10_000);
    },
    20_000,
  );

  test('within a stream: it breaks off', async () => {
    const peer = await freezable();
    const answer = await front.fetch(`${EXECS}/e1/output?follow=true`, {
      headers: { do: 'stream', ...NDJSON },
    });
    expect(answer.status).toBe(200);
    peer.freeze();
    const began = performance.now();
    await expect(answer.text()).rejects.toThrow();
    expect(performance.now() - began).toBeLessThan(10_000);
  }, 20_000);

  test('is none that takes its time and says that it is there', async () => {
    await freezable();
    const answer = await front.fetch(STOP, { method: 'POST', headers: { do: 'late' } });
    expect([answer.status, await answer.text()]).toEqual([200, 'late']);
  }, 20_000);
});

test('a body that breaks off is not completed on the way', async () => {
  const content = Buffer.alloc(64 * 1024, 'x');
  const upload = request(`${front.url}/v1/sessions/demo/files?path=cut`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${API_KEY}`, 'transfer-encoding': 'chunked' },
  });
  upload.on('error', () => {});
  upload.write(content);
  const agent = back.fake.agent('demo');
  await expect.poll(() => agent.requests).toContain('PUT /files');
  upload.destroy();
  await expect.poll(() => agent.openStreams).toBe(0);
  expect((await front.fetch('/v1/sessions/demo/files?path=cut')).status).toBe(404);
});

test('a shutdown cuts streams that are sent on, and is not held up by them', async () => {
  const put = { method: 'PUT', body: JSON.stringify({ command: 'echo first; sleep 60' }), headers: NDJSON };
  const answer = await front.fetch('/v1/sessions/demo/execs/e1', put);
  const read = answer.text();
  await front.app.close();
  await expect(read).rejects.toThrow();
});

test('nor by one that begins while it shuts down', async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  found = promise;
  const put = { method: 'PUT', body: JSON.stringify({ command: 'echo first; sleep 60' }), headers: NDJSON };
  const read = front.fetch('/v1/sessions/demo/execs/e1', put).then((answer) => answer.text());
  read.catch(() => {});
  await expect.poll(() => asked.length).toBe(1);
  const closed = front.app.close();
  await expect.poll(() => front.app.server.listening).toBe(false);
  resolve();
  await closed;
  await expect(read).rejects.toThrow();
}, 20_000);
