import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { connect } from '../../../image/agent/workspace/connect.ts';

test('a storage that never answers the TLS handshake is given up in time, and its connection closed', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const arrived = once(server, 'connection') as Promise<[Socket]>;
  const { port } = server.address() as AddressInfo;
  const attempt = connect(new URL(`https://127.0.0.1:${port}/`), undefined, 500);
  const refused = expect(attempt).rejects.toMatchObject({ name: 'AbortError' });
  const [socket] = await arrived;
  socket.resume();
  const closed = once(socket, 'close');
  await refused;
  await closed;
  server.close();
});
