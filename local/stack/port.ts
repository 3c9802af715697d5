import { once } from 'node:events';
import { createServer } from 'node:net';

/** Asked before anything is started, so that the answer comes at once and says what to do. 0 is always free. */
export async function assertPortIsFree(port: number): Promise<void> {
  const server = createServer();
  try {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const why = code === 'EADDRINUSE' ? 'in use' : `not to be had (${code})`;
    throw new Error(
      `Port ${port} of 127.0.0.1 is ${why}: choose another with --port, or 0 for any that is free`,
    );
  } finally {
    server.close();
  }
}
