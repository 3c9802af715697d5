import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import fastify, { type FastifyInstance } from 'fastify';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { giveUpStalled } from '../../controller/api/stalls.ts';

let app: FastifyInstance;
let arrived: PromiseWithResolvers<IncomingMessage>;
let mayRead: PromiseWithResolvers<void>;

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  arrived = Promise.withResolvers();
  mayRead = Promise.withResolvers();
  app = fastify();
  giveUpStalled(app);
  app.post('/json', () => 'read');
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));
  app.post('/bytes', async ({ raw }) => {
    arrived.resolve(raw);
    await mayRead.promise;
    return String((await text(raw)).length);
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
});
afterEach(async () => {
  vi.useRealTimers();
  app.server.closeAllConnections();
  await app.close();
});

function post(path: string, type: string) {
  const { port } = app.server.address() as AddressInfo;
  const headers = { 'content-type': type, 'content-length': 1_000_000 };
  return request({ host: '127.0.0.1', port, path, method: 'POST', headers });
}

const minutes = (count: number) => vi.advanceTimersByTime(count * 60_000);

test.each([
  ['/json', 'application/json'],
  ['/bytes', 'application/octet-stream'],
])('a body of %s that stops coming ends the request', async (path, type) => {
  mayRead.resolve();
  const stalled = post(path, type);
  let broken: NodeJS.ErrnoException | undefined;
  stalled.on('error', (error) => {
    broken = error;
  });
  stalled.write('"begun');
  await expect.poll(() => minutes(1) && broken?.code).toBe('ECONNRESET');
});

test('a body that nobody takes yet waits for as long as it must', async () => {
  const patient = post('/bytes', 'application/octet-stream');
  patient.end(Buffer.alloc(1_000_000, 'x'));
  const raw = await arrived.promise;
  await expect.poll(() => raw.readableLength).toBeGreaterThan(0);
  minutes(30);
  expect(raw.destroyed).toBe(false);
  mayRead.resolve();
  const [response] = await once(patient, 'response');
  expect(await text(response)).toBe('1000000');
});
