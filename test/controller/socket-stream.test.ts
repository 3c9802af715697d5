import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { socketStream } from '../../controller/agents/socket-stream.ts';

let server: WebSocketServer;
let http: ReturnType<typeof createServer>;
let near: WebSocket;
let far: WebSocket;
beforeEach(async () => {
  http = createServer();
  server = new WebSocketServer({ server: http });
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  const accepted = once(server, 'connection');
  far = new WebSocket(`ws://127.0.0.1:${(http.address() as AddressInfo).port}`);
  far.on('error', () => {});
  [near] = (await accepted) as [WebSocket];
  await once(far, 'open');
});
afterEach(() => {
  far.terminate();
  server.close();
  http.close();
});

it('carries bytes both ways, many writes as one message', async () => {
  const stream = socketStream(near);
  const messages: Buffer[] = [];
  far.on('message', (data) => messages.push(data as Buffer));
  stream.cork();
  for (const part of ['a', 'b', 'c']) stream.write(part);
  stream.uncork();
  await expect.poll(() => messages.map(String)).toEqual(['abc']);
  far.send('back');
  expect(String((await once(stream, 'data'))[0])).toBe('back');
});

it('ends without an uncaught error when a write fails and nobody listens any more', async () => {
  const stream = socketStream(near);
  // Only `close` is listened to: `once` would take the error, which would otherwise end the process, and with it this test.
  const closed = new Promise((resolve) => stream.on('close', resolve));
  stream.destroy(new Error('write EPIPE'));
  await closed;
  expect(stream.destroyed).toBe(true);
  await expect.poll(() => far.readyState).toBe(WebSocket.CLOSED);
});
