import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectDatabase, rows, value } from '../../controller/store/database.ts';

/** Answers as the path says: `cut` breaks the connection off once the request is there, `silent` never answers. */
const server = createServer((request, response) => {
  const path = request.url!.split('?')[0]!;
  if (path.endsWith('/silent')) return;
  if (path.endsWith('/cut')) return void request.socket.destroy();
  const [, status, code] = /\/(\d+)_(\w*)$/.exec(path)!;
  response.writeHead(Number(status), { 'content-type': 'application/json' });
  response.end(JSON.stringify({ code, message: 'trouble', details: null, hint: null }));
});
let url: string;
beforeAll(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

const TIMEOUT_MS = 200;

describe('a database without a usable answer', () => {
  it.each([
    ['cut', 'database_lost'],
    ['silent', 'database_lost'],
    // A gateway that gave up says nothing of what lies behind it.
    ['502_', 'database_lost'],
    ['504_', 'database_lost'],
    ['503_PGRST001', 'database_lost'],
    ['503_08006', 'database_lost'],
    ['503_PGRST000', 'database_unavailable'],
    ['504_PGRST003', 'database_unavailable'],
    ['500_57014', 'database_unavailable'],
    ['503_53300', 'database_unavailable'],
    ['429_', 'database_unavailable'],
    ['401_', 'internal'],
    ['400_23514', 'internal'],
  ])('%s: a change is %s, a read never was one', async (path, code) => {
    const database = connectDatabase(url, 'sb_secret_x', TIMEOUT_MS);
    await expect(value('a change', database.rpc(path))).rejects.toMatchObject({ code });
    const read = code === 'database_lost' ? 'database_unavailable' : code;
    await expect(rows('a read', database.from(path).select('*'))).rejects.toMatchObject({ code: read });
  });

  it('that takes no connection has changed nothing', async () => {
    const closed = createServer().listen(0, '127.0.0.1');
    await once(closed, 'listening');
    const { port } = closed.address() as AddressInfo;
    closed.close();
    await once(closed, 'close');
    const database = connectDatabase(`http://127.0.0.1:${port}`, 'sb_secret_x', TIMEOUT_MS);
    await expect(value('a change', database.rpc('x'))).rejects.toMatchObject({
      code: 'database_unavailable',
    });
  });
});
