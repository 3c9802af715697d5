import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { expect, onTestFinished } from 'vitest';
import { createFlyClient, type FlyClient, type FlyClientOptions, FlyError } from '../../fly/index.ts';

export interface Seen {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: IncomingHttpHeaders;
  /** Of the client's end: the same for calls on one connection. */
  port: number | undefined;
  body: unknown;
}

/**
 * What the server does with a request: answers (200 by default), or `reset` the connection without a word,
 * `hang` until the client goes away, `cut` it in the middle of a body.
 */
export type Play =
  | { status?: number; json?: unknown; text?: string; headers?: Record<string, string> }
  | 'reset'
  | 'hang'
  | 'cut';

export interface ScriptedServer {
  url: string;
  seen: Seen[];
  /** `METHOD /path` of what was seen, in order. */
  calls(): string[];
}

/** A real HTTP server whose every answer is decided by `play`. Closed when the test is over. */
export async function scriptedServer(play: (request: Seen, nth: number) => Play): Promise<ScriptedServer> {
  const seen: Seen[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const url = new URL(request.url ?? '/', 'http://server');
    const one: Seen = {
      method: request.method ?? '',
      path: url.pathname,
      query: url.searchParams,
      headers: request.headers,
      port: request.socket.remotePort,
      body: text === '' ? undefined : JSON.parse(text),
    };
    seen.push(one);
    const answer = play(one, seen.length);
    if (answer === 'hang') return;
    if (answer === 'reset') {
      request.socket.resetAndDestroy();
      return;
    }
    if (answer === 'cut') {
      response.writeHead(200, { 'content-length': '1000' });
      response.write('{"id":"');
      response.socket?.end();
      return;
    }
    response.writeHead(answer.status ?? 200, { 'fly-request-id': `req-${seen.length}`, ...answer.headers });
    response.end(answer.text ?? (answer.json === undefined ? '' : JSON.stringify(answer.json)));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    calls: () => seen.map(({ method, path }) => `${method} ${path}`),
  };
}

/** The URL of a computer that does not take the connection: no refusal, no answer. Gone when the test is over. */
export async function deafServer(): Promise<string> {
  // A process that stands still accepts nothing, and a queue that is full lets the kernel drop whoever comes next.
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
     const server = require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
       parentPort.postMessage(server.address().port);
       Atomics.wait(workerData, 0, 0);
     });`,
    { eval: true, workerData: new Int32Array(new SharedArrayBuffer(4)) },
  );
  const sockets: Socket[] = [];
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await worker.terminate();
  });
  const [port] = (await once(worker, 'message')) as [number];
  for (let n = 0; n < 8; n++) {
    const socket = connect(port, '127.0.0.1').on('error', () => {});
    sockets.push(socket);
  }
  // The queue takes two, and those two are not heard of again.
  await expect.poll(() => sockets.filter((socket) => !socket.connecting).length).toBeGreaterThanOrEqual(2);
  return `http://127.0.0.1:${port}`;
}

/** Plays these in order; the last one again and again. */
export function inOrder(...plays: Play[]): (request: Seen, nth: number) => Play {
  return (_request, nth) => plays[Math.min(nth, plays.length) - 1] ?? 'hang';
}

/** Time in which every sleep is over at once and moves the clock by its length. */
export function hurriedTime(): {
  clock: () => number;
  sleep: NonNullable<FlyClientOptions['sleep']>;
  slept: number[];
} {
  let now = 0;
  const slept: number[] = [];
  return {
    clock: () => now,
    slept,
    async sleep(ms, signal) {
      signal?.throwIfAborted();
      slept.push(ms);
      now += ms;
      await setImmediate();
    },
  };
}

export const TOKEN = 'FlyV1 fm2_canary1permission,fm2_canary2discharge';

export function testClient(url: string, options: Partial<FlyClientOptions> = {}): FlyClient {
  const { clock, sleep } = hurriedTime();
  const client = createFlyClient({ token: TOKEN, baseUrl: url, random: () => 0.5, clock, sleep, ...options });
  onTestFinished(() => client.close());
  return client;
}

/** The `FlyError` that the promise rejects with; anything else fails the test. */
export async function failureOf(promise: Promise<unknown>): Promise<FlyError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof FlyError) return error;
    throw error;
  }
  throw new Error('resolved, where a FlyError was expected');
}
