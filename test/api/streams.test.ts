import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { AgentLink } from '../../controller/agents/link.ts';
import { LANE_FROM_BYTES } from '../../controller/agents/wire.ts';
import type { ExecEvent, JobLogEvent } from '../../controller/api/schemas.ts';
import { API_KEY, Harness } from './support/harness.ts';

let harness: Harness;
const EXECS = '/v1/sessions/demo/execs';
const NDJSON = { accept: 'application/x-ndjson' };

beforeEach(async () => {
  harness = await Harness.start();
  await harness.fake.open('demo');
});
afterEach(async () => {
  vi.restoreAllMocks();
  await harness.close();
});

const start = (id: string, spec: object, headers: Record<string, string> = {}) =>
  harness.fetch(`${EXECS}/${id}`, { method: 'PUT', body: JSON.stringify(spec), headers });

async function lines<T>(response: Pick<Response, 'headers' | 'text'>): Promise<T[]> {
  expect(response.headers.get('content-type')).toContain('application/x-ndjson');
  return (await response.text())
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

const stdoutOf = (events: ExecEvent[]) =>
  events.map((event) => (event.type === 'stdout' ? Buffer.from(event.data, event.encoding) : '')).join('');

describe('execs', () => {
  test('the stream begins with the incarnation and ends with the result', async () => {
    const response = await start('e1', { command: 'echo hi; exit 5' }, NDJSON);
    expect(response.status).toBe(201);
    const events = await lines<ExecEvent>(response);
    expect(events[0]).toMatchObject({ type: 'start', id: 'e1', incarnation: 1 });
    expect(stdoutOf(events)).toBe('hi\n');
    expect(events.at(-1)).toMatchObject({ type: 'end', result: { kind: 'exited', code: 5 } });
  });

  test('without that Accept the answer says what was started; the same again 200; another command 409', async () => {
    const spec = { command: 'sleep 30' };
    const first = await start('e1', spec);
    expect([first.status, await first.json()]).toMatchObject([201, { id: 'e1', incarnation: 1 }]);
    expect((await start('e1', spec)).status).toBe(200);
    const other = await start('e1', { command: 'sleep 31' });
    expect([other.status, (await other.json()).code]).toEqual([409, 'exec_conflict']);
  });

  test('output can be asked for from offsets', async () => {
    await (await start('e1', { command: 'printf 0123456789' }, NDJSON)).text();
    const response = await harness.fetch(`${EXECS}/e1/output?stdout=4&incarnation=1`);
    const events = await lines<ExecEvent>(response);
    expect(events[0]).toMatchObject({ type: 'start', incarnation: 1 });
    expect(stdoutOf(events)).toBe('456789');
  });

  test.each([
    ['stopped', () => harness.fake.stop('demo')],
    [
      'on another machine',
      async () => {
        await harness.fake.stop('demo');
        await harness.fake.open('demo');
      },
    ],
  ])('output of a sandbox whose session is now %s is one end: machine_lost', async (_what, change) => {
    await start('e1', { command: 'sleep 30' });
    await change();
    const events = await lines<ExecEvent>(
      await harness.fetch(`${EXECS}/e1/output?stdout=3&stderr=1&incarnation=1`),
    );
    expect(events).toMatchObject([
      { type: 'end', result: { kind: 'machine_lost' }, stdout_bytes: 3, stderr_bytes: 1 },
    ]);
  });

  test('an agent that can not be reached is no lost machine', async () => {
    harness.fake.unreachable = true;
    const response = await harness.fetch(`${EXECS}/e1/output?incarnation=1`);
    expect([response.status, (await response.json()).code]).toEqual([503, 'agent_unreachable']);
  });

  test('a tunnel that breaks on the way breaks the answer off instead of ending it', async () => {
    const response = await start('e1', { command: 'echo hi; sleep 30' }, NDJSON);
    const reader = response.body!.getReader();
    await reader.read();
    harness.fake.agent('demo').disconnect();
    await expect(
      (async () => {
        while (!(await reader.read()).done);
      })(),
    ).rejects.toThrow();
  });

  test('a client that leaves frees the stream of the agent, and the command goes on', async () => {
    const agent = harness.fake.agent('demo');
    const left = new AbortController();
    const response = await harness.fetch(`${EXECS}/e1`, {
      method: 'PUT',
      headers: NDJSON,
      body: JSON.stringify({ command: 'echo hi; sleep 30' }),
      signal: left.signal,
    });
    await response.body!.getReader().read();
    expect(agent.openStreams).toBe(1);
    left.abort();
    await vi.waitFor(() => expect(agent.openStreams).toBe(0));
    expect(await (await harness.fetch(`${EXECS}/e1`)).json()).toMatchObject({ state: 'running' });
  });

  test('a reader that does not read stops the sender: the controller holds little of it', async () => {
    const before = process.memoryUsage().arrayBuffers;
    const response = await raw('PUT', `${EXECS}/e1`, NDJSON, JSON.stringify({ command: 'cat /dev/zero' }));
    response.pause();
    const agent = harness.fake.agent('demo');
    await vi.waitFor(() => expect(agent.stalled('e1')).toBe(true), 10_000);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(400 * 1024 * 1024);
    response.destroy();
    await vi.waitFor(() => expect(agent.openStreams).toBe(0));
  });

  test('closing the API cuts streams, so that their readers go elsewhere', async () => {
    const response = await start('e1', { command: 'echo hi; sleep 30' }, NDJSON);
    const reader = response.body!.getReader();
    await reader.read();
    const closing = harness.app.close();
    await expect(reader.read()).rejects.toThrow();
    await closing;
  });

  test('a request that comes over an old connection while the API closes is refused as shutting_down', async () => {
    const held = Promise.withResolvers<void>();
    const save = async () => {
      await held.promise;
      return { version: 1, changed: false, files: 0, bytes: 0 };
    };
    const other = await Harness.start((deps) => ({ ...deps, files: { ...deps.files, save } }));
    await other.fake.open('demo');
    const { hostname, port } = new URL(other.url);
    const socket = connect(Number(port), hostname);
    const ask = (line: string) => {
      socket.write(`${line} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${API_KEY}\r\n\r\n`);
      return once(other.app.server, 'request');
    };
    await ask('POST /v1/sessions/demo/save');
    const closed = other.app.close();
    await ask('GET /v1/sessions');
    held.resolve();
    expect(await text(socket)).toMatch(/^HTTP\/1.1 200 [\s\S]*HTTP\/1.1 503 [\s\S]*"code":"shutting_down"/);
    await closed;
    await other.fake.close();
  });

  test('stdin goes in by offset, signals to the whole group', async () => {
    await start('e1', { command: 'cat; echo done; sleep 30', stdin: true });
    const send = async (offset: number, body: string, eof = '') =>
      (await harness.fetch(`${EXECS}/e1/stdin?offset=${offset}${eof}`, { method: 'POST', body })).json();
    expect(await send(0, 'abc')).toEqual({ received: 3 });
    expect(await send(0, 'abc')).toEqual({ received: 3 });
    expect(await send(3, 'def', '&eof=1')).toEqual({ received: 6 });
    await expect
      .poll(async () => (await harness.json(`${EXECS}/e1`)).stdout_bytes)
      .toBe('abcdefdone\n'.length);
    const output = await harness.fetch(`${EXECS}/e1/output`);
    const signal = await harness.fetch(`${EXECS}/e1/signal`, {
      method: 'POST',
      body: '{"signal":"SIGTERM"}',
    });
    expect(signal.status).toBe(204);
    const events = await lines<ExecEvent>(output);
    expect(stdoutOf(events)).toContain('abcdef');
    expect(events.at(-1)).toMatchObject({ result: { kind: 'signaled', signal: 'SIGTERM' } });
  });
});

describe('files', () => {
  const at = (path: string) => `/v1/sessions/demo/files?path=${encodeURIComponent(path)}`;

  test.each(['application/octet-stream', 'application/json', 'application/x-www-form-urlencoded', undefined])(
    'a body is taken as bytes when its type is %s',
    async (type) => {
      const body = Buffer.from('{"not": json');
      const response = await raw(
        'PUT',
        `${at('app/(tabs)/[id] ü.tsx')}&mode=755`,
        type ? { 'content-type': type } : {},
        body,
      );
      expect(response.statusCode).toBe(200);
      response.resume();
      const back = await harness.fetch(at('app/(tabs)/[id] ü.tsx'));
      expect(await back.text()).toBe('{"not": json');
      const stat = JSON.parse(decodeURIComponent(back.headers.get('x-mobvibe-stat')!));
      expect(stat).toMatchObject({ mode: 0o755, size: body.length, type: 'file' });
    },
  );

  test('a lane is offered for what is or may be large', async () => {
    const request = vi.spyOn(AgentLink.prototype, 'request');
    const offered = () => request.mock.lastCall![0].lane;
    await (await harness.fetch(at('a'), { method: 'PUT', body: 'small' })).text();
    expect(offered()).toBe(false);
    await (await harness.fetch(at('a'), { method: 'PUT', body: new Uint8Array(LANE_FROM_BYTES) })).text();
    expect(offered()).toBe(true);
    const unknown = open('PUT', at('a'), { 'transfer-encoding': 'chunked' });
    unknown.end('small');
    (await once(unknown, 'response'))[0].resume();
    expect(offered()).toBe(true);
    await (await harness.fetch(at('a'))).text();
    expect(offered()).toBe(true);
  });

  test('an upload that breaks off replaces nothing', async () => {
    await harness.fetch(at('a.txt'), { method: 'PUT', body: 'old' });
    const agent = harness.fake.agent('demo');
    const outgoing = open('PUT', at('a.txt'), {});
    outgoing.on('error', () => {});
    outgoing.write(Buffer.alloc(300_000));
    await vi.waitFor(() => expect(existsSync(join(agent.root, 'a.txt.part'))).toBe(true));
    outgoing.destroy();
    await vi.waitFor(() => expect(existsSync(join(agent.root, 'a.txt.part'))).toBe(false));
    expect(await readFile(join(agent.root, 'a.txt'), 'utf8')).toBe('old');
  });

  test('a download that breaks off is no short file', async () => {
    const agent = harness.fake.agent('demo');
    await writeFile(join(agent.root, 'big'), Buffer.alloc(200_000_000));
    const response = await raw('GET', at('big'), {});
    response.pause();
    agent.disconnect();
    response.resume();
    const [error] = await once(response, 'error');
    expect(error.code).toBe('ECONNRESET');
    expect(response.complete).toBe(false);
  });
});

describe('job logs', () => {
  const line = (events: JobLogEvent[]) =>
    events.map((event) => (event.type === 'stdout' ? event.data : '')).join('');

  test('without follow: what there is, and the job as it is', async () => {
    harness.fake.enqueue({ id: 'j', sessionId: 'demo', spec: { command: 'x' }, maxAttempts: 3, actor: 't' });
    harness.fake.say('j', 'stdout', 'one\n');
    const events = await lines<JobLogEvent>(await harness.fetch('/v1/jobs/j/logs'));
    expect(line(events)).toBe('one\n');
    expect(events.at(-1)).toMatchObject({ type: 'end', job: { id: 'j', status: 'queued' } });
  });

  test('with follow: to the end, with what was written last', async () => {
    const { job } = harness.fake.enqueue({
      id: 'j',
      sessionId: 'demo',
      spec: { command: 'x' },
      maxAttempts: 3,
      actor: 't',
    });
    const all = harness.fetch('/v1/jobs/j/logs?follow=1').then((response) => lines<JobLogEvent>(response));
    for (let i = 0; i < 450; i++) harness.fake.say('j', 'stdout', `${i}\n`);
    Object.assign(job, { status: 'succeeded', ended_at: new Date().toISOString() });
    const events = await all;
    expect(line(events)).toBe(Array.from({ length: 450 }, (_, i) => `${i}\n`).join(''));
    expect(events.at(-1)).toMatchObject({ type: 'end', job: { status: 'succeeded' } });
  });
});

function open(method: string, path: string, headers: Record<string, string>): ClientRequest {
  return request(harness.url + path, { method, headers: { authorization: `Bearer ${API_KEY}`, ...headers } });
}

async function raw(
  method: string,
  path: string,
  headers: Record<string, string>,
  body?: string | Buffer,
): Promise<IncomingMessage> {
  const type: Record<string, string> = typeof body === 'string' ? { 'content-type': 'application/json' } : {};
  const outgoing = open(method, path, { ...type, ...headers });
  outgoing.end(body);
  const [response] = await once(outgoing, 'response');
  return response;
}
