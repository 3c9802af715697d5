import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, request, type Server } from 'node:http';
import { type AddressInfo, connect, createServer as createNetServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { expect, it, onTestFinished } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { laneAccepted, laneStream } from '../../controller/agents/lane-stream.ts';

const NOTHING = Buffer.alloc(0);
const broken = () => new Error('broken off');

/** Both ends of a lane over a real connection, the dialed one first, and the sockets below them. */
async function lane(): Promise<{ ends: [Duplex, Duplex]; sockets: [Socket, Socket] }> {
  const server = createNetServer({ allowHalfOpen: true });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const near = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const [far] = (await accepted) as [Socket];
  onTestFinished(() => {
    for (const socket of [near, far]) socket.destroy();
    server.close();
  });
  return {
    ends: [
      laneStream({ socket: near, head: NOTHING, dialed: true, broken }),
      laneStream({ socket: far, head: NOTHING, dialed: false, broken }),
    ],
    sockets: [near, far],
  };
}

it.each([
  ['from the end that dialed', false],
  ['to the end that dialed', true],
])('carries a body whole %s, and the receiver closes', async (_what, turned) => {
  const { ends } = await lane();
  const [sender, receiver] = turned ? ends.toReversed() : ends;
  const bodies = [randomBytes(10), NOTHING, randomBytes(700_000), randomBytes(70_000)];
  for (const body of bodies) sender!.write(body);
  sender!.end();
  const closed = once(sender!, 'close');
  expect((await buffer(receiver!)).equals(Buffer.concat(bodies))).toBe(true);
  await closed;
  expect([sender!.writableFinished, sender!.errored]).toEqual([true, null]);
});

it('is broken off, not ended, when the sender goes before the end', async () => {
  const { ends, sockets } = await lane();
  ends[0].write('half');
  await expect(
    (async () => {
      for await (const _part of ends[1]) sockets[0].destroy();
    })(),
  ).rejects.toThrow('broken off');
});

it('stops the sender when the receiver goes', async () => {
  const { ends } = await lane();
  ends[0].write('some');
  await once(ends[1], 'readable');
  ends[1].destroy();
  await once(ends[0], 'close').catch(() => {});
  expect(ends[0].errored).toMatchObject({ message: 'broken off' });
});

it('makes the sender wait for a receiver that does not read', async () => {
  const { ends } = await lane();
  const piece = Buffer.alloc(256 * 1024);
  let written = 0;
  const stopped = (async () => {
    // Far more than the system's own buffers hold.
    for (; written < 400 && ends[0].write(piece); written += 1) {
      await new Promise<void>((resolve) => {
        if (ends[0].writableLength === 0) resolve();
        else setImmediate(resolve);
      });
    }
  })();
  await stopped;
  expect(written).toBeLessThan(400);
  expect(ends[1].readableLength).toBeLessThan(2 * 1024 * 1024);
  ends[0].end();
  expect((await buffer(ends[1])).length).toBe((written + 1) * piece.length);
});

it('is refused with what is no frame of a lane', async () => {
  const { ends, sockets } = await lane();
  sockets[0].write('GET / HTTP/1.1\r\n\r\n');
  await expect(buffer(ends[1])).rejects.toThrow('broken off');
});

/** To whoever speaks RFC 6455, a lane is a WebSocket with binary messages. */
it('is understood by ws as its server', async () => {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
  await once(server, 'listening');
  onTestFinished(() => server.close());
  const accepted = once(server, 'connection') as Promise<[WebSocket]>;
  const [, socket, head] = await upgrade((server.address() as AddressInfo).port);
  const end = laneStream({ socket, head, dialed: true, broken });
  const [peer] = await accepted;
  const messages: Buffer[] = [];
  peer.on('message', (data) => messages.push(data as Buffer));
  end.write('to ws');
  end.end();
  peer.send('to the lane', { binary: true });
  peer.send(NOTHING);
  expect(String(await buffer(end))).toBe('to the lane');
  await expect.poll(() => messages.map(String)).toEqual(['to ws', '']);
});

it('is understood by ws as its client', async () => {
  const server: Server = createServer();
  server.on('upgrade', ({ headers }, socket, head) => {
    socket.write(laneAccepted(String(headers['sec-websocket-key'])));
    const end = laneStream({ socket, head, dialed: false, broken });
    end.pipe(end);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`, {
    perMessageDeflate: false,
    generateMask: (mask) => mask.fill(0),
  });
  onTestFinished(() => client.terminate());
  await once(client, 'open');
  const echo = once(client, 'message');
  client.send(Buffer.alloc(100_000, 'x'));
  expect((await echo)[0].length).toBeGreaterThan(0);
});

async function upgrade(port: number): Promise<[unknown, Duplex, Buffer]> {
  const headers = {
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': randomBytes(16).toString('base64'),
  };
  const outgoing = request({ host: '127.0.0.1', port, headers });
  outgoing.end();
  return (await once(outgoing, 'upgrade')) as [unknown, Duplex, Buffer];
}
