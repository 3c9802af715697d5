import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connectDatabase, rows, value } from '../../controller/store/database.ts';

/** Answers as the path says: `cut` breaks the connection off once the request is there, `silent` never answers. */
const server = createServer((request, response) => {
  const path = request.url!.split('?')[0]!;
  if (path.endsWith('/silent')) return;
  if (path.endsWith('/cut')) return void request.socket.destroy();
  const [, status, code] = /\/(\d+)_(\w*)$/.exec(path)!;
  asked++;
  if (passesAfter !== undefined && asked > passesAfter) {
    response.writeHead(200, { 'content-type': 'application/json' });
    return void response.end('"done"');
  }
  response.writeHead(Number(status), { 'content-type': 'application/json' });
  response.end(JSON.stringify({ code, message: 'trouble', details: null, hint: null }));
});
/** Requests for a path with a status, since the test began. */
let asked = 0;
/** What comes after so many is answered as it should be. */
let passesAfter: number | undefined;
beforeEach(() => {
  asked = 0;
  passesAfter = undefined;
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
/** Time passes only where it is waited for. */
function virtualTime(random = 0.5) {
  let now = 0;
  const waits: number[] = [];
  return {
    waits,
    clock: () => now,
    random: () => random,
    sleep: async (ms: number) => {
      waits.push(ms);
      now += ms;
    },
  };
}

describe('a database without a usable answer', () => {
  it.each([
    ['cut', 'database_lost'],
    ['silent', 'database_lost'],
    // A gateway that gave up says nothing of what lies behind it.
    ['502_', 'database_lost'],
    ['504_', 'database_lost'],
    ['503_08006', 'database_lost'],
    ['503_PGRST000', 'database_unavailable'],
    ['503_PGRST001', 'database_unavailable'],
    ['503_PGRST002', 'database_unavailable'],
    ['504_PGRST003', 'database_unavailable'],
    ['500_57014', 'database_unavailable'],
    ['503_53300', 'database_unavailable'],
    ['429_', 'database_unavailable'],
    ['401_', 'internal'],
    ['400_23514', 'internal'],
  ])('%s: a change is %s, a read never was one', async (path, code) => {
    const database = connectDatabase(url, 'sb_secret_x', TIMEOUT_MS, virtualTime());
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

describe('an API whose schema cache is behind a migration', () => {
  it.each(['503_PGRST002', '404_PGRST202', '404_PGRST205'])(
    '%s passes: what was refused is sent again',
    async (path) => {
      passesAfter = 5;
      const time = virtualTime();
      const database = connectDatabase(url, 'sb_secret_x', TIMEOUT_MS, time);
      await expect(value('a change', database.rpc(path, { p_x: 1 }))).resolves.toBe('done');
      expect(asked).toBe(6);
      expect(time.waits).toHaveLength(5);
      expect(time.waits).toEqual(time.waits.toSorted((a, b) => a - b));
    },
  );

  it.each([
    ['404_PGRST202', 'internal', /PGRST202.*not applied/],
    ['404_PGRST205', 'internal', /PGRST205.*not applied/],
    ['503_PGRST002', 'database_unavailable', /PGRST002/],
  ])('%s that does not pass is %s after 30 s, whatever chance says', async (path, code, detail) => {
    for (const random of [0, 0.5, 0.999]) {
      const time = virtualTime(random);
      const database = connectDatabase(url, 'sb_secret_x', TIMEOUT_MS, time);
      const expected = { code, detail: expect.stringMatching(detail) };
      await expect(value('a change', database.rpc(path))).rejects.toMatchObject(expected);
      expect(time.clock()).toBeGreaterThan(25_000);
      expect(time.clock()).toBeLessThanOrEqual(30_000);
      expect(time.waits.length).toBeLessThan(120);
    }
  });

  it.each(['503_PGRST000', '503_PGRST001', '504_PGRST003', '404_', '503_', '404_PT404'])(
    '%s has other reasons: it is said at once',
    async (path) => {
      const database = connectDatabase(url, 'sb_secret_x', TIMEOUT_MS, virtualTime());
      await expect(value('a change', database.rpc(path))).rejects.toBeDefined();
      expect(asked).toBe(1);
    },
  );

  it('is not waited for by a caller who has given up', async () => {
    const gaveUp = new AbortController();
    const sleep = async () => gaveUp.abort();
    const database = connectDatabase(url, 'sb_secret_x', TIMEOUT_MS, { ...virtualTime(), sleep });
    const call = database.rpc('503_PGRST002').abortSignal(gaveUp.signal);
    await expect(rows('a read', call)).rejects.toMatchObject({ code: 'database_unavailable' });
    expect(asked).toBe(1);
  });
});
