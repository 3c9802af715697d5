import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';

/** Asked before anything is started, so that the answer comes at once and says what to do. 0 is always free. */
export async function assertPortIsFree(port: number, flag = '--port'): Promise<void> {
  const server = createServer();
  try {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const why = code === 'EADDRINUSE' ? 'in use' : `not to be had (${code})`;
    throw new Error(
      `Port ${port} of 127.0.0.1 is ${why}: choose another with ${flag}, or 0 for any that is free`,
    );
  } finally {
    server.close();
  }
}

/** One that is free now on 127.0.0.1; whoever wants it should take it soon. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
