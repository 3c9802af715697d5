import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { agentToken } from '../../../controller/agents/token.ts';
import { startEgressProxy } from '../../../controller/egress/proxy.ts';
import { readEgressSettings } from '../../../controller/egress/settings.ts';
import { connect } from '../../../image/agent/workspace/connect.ts';

test('a storage that never answers the TLS handshake is given up in time, and its connection closed', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const arrived = once(server, 'connection') as Promise<[Socket]>;
  const { port } = server.address() as AddressInfo;
  const attempt = connect(new URL(`https://127.0.0.1:${port}/`), undefined, 500);
  const refused = expect(attempt).rejects.toThrow(`no connection to 127.0.0.1:${port} within 500 ms`);
  const [socket] = await arrived;
  socket.resume();
  const closed = once(socket, 'close');
  await refused;
  await closed;
  server.close();
});

describe('through the egress proxy on a port', () => {
  const secret = 'a-secret-of-thirty-two-characters';

  async function behindProxy(token: string): Promise<string> {
    const storage = createServer((socket) => socket.end('reached')).listen(0, '127.0.0.1');
    await once(storage, 'listening');
    const { port } = storage.address() as AddressInfo;
    const proxy = await startEgressProxy(
      readEgressSettings({
        MOBVIBE_EGRESS_ALLOW: `127.0.0.1:${port}`,
        MOBVIBE_EGRESS_LISTEN_PORT: '0',
        MOBVIBE_AGENT_SECRET: secret,
      }),
    );
    try {
      const way = { url: `http://127.0.0.1:${proxy.port}`, token };
      const socket = await connect(new URL(`http://127.0.0.1:${port}/`), way);
      return await text(socket);
    } finally {
      await proxy.close();
      storage.close();
    }
  }

  test('the agent shows its token', async () => {
    expect(await behindProxy(agentToken(secret, 's-mine-1'))).toBe('reached');
  });

  test('one that says nothing is given up in time, by name', async () => {
    const silent = createServer((socket) => socket.resume().on('error', () => {})).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const way = { url: `http://127.0.0.1:${(silent.address() as AddressInfo).port}`, token: 'mine' };
    await expect(connect(new URL('http://storage:8000/'), way, 100)).rejects.toThrow(
      /^no connection to storage:8000 through the egress proxy within 100 ms$/,
    );
    silent.close();
  });

  test('and is told so when it is not taken', async () => {
    await expect(behindProxy(agentToken('x'.repeat(32), 's-mine-1'))).rejects.toThrow(
      /^the egress proxy refused 127\.0\.0\.1:\d+ with 407$/,
    );
  });
});
