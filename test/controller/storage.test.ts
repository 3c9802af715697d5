import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { workspaceStorage } from '../../controller/files/storage.ts';
import { connectDatabase } from '../../controller/store/index.ts';

let answer: (request: IncomingMessage, response: ServerResponse) => void;
const server = createServer((request, response) => answer(request, response));
const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

async function storage(reply: typeof answer) {
  answer = reply;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(() => {
    server.close();
    server.closeAllConnections();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return workspaceStorage(connectDatabase(url, 'key', 2_000), { url, timeoutMs: 2_000 });
}

/** As Supabase Storage tells its own errors: HTTP 400, and the real status in the body. */
const envelope =
  (statusCode: string, code: string, message: string) => (_: unknown, response: ServerResponse) => {
    response.writeHead(400, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ statusCode, code, error: code, message }));
  };

describe('storage', () => {
  it.each([
    ['storage_refused', 'supabase/migrations', envelope('404', 'NoSuchBucket', 'Bucket not found')],
    ['storage_refused', 'SUPABASE_SERVICE_ROLE_KEY', envelope('403', 'AccessDenied', 'not allowed')],
    ['storage_full', 'plan or spend cap', envelope('402', 'PaymentRequired', 'quota')],
    ['storage_unavailable', 'by itself', envelope('500', 'DatabaseError', 'connection failed')],
  ])('that answers inside HTTP 400 is %s, and says: %s', async (code, advice, reply) => {
    const refused = { code, detail: expect.stringContaining(advice) };
    const one = await storage(reply);
    await expect(one.signUpload('s/a/p/b')).rejects.toMatchObject(refused);
    await expect(one.signDownloads(['s/a/p/b'])).rejects.toMatchObject(refused);
    await expect(one.size('s/a/p/b')).rejects.toMatchObject(refused);
    await expect(one.ping()).rejects.toMatchObject(refused);
  });

  it('has no size for an object that is not there', async () => {
    const one = await storage(envelope('404', 'NoSuchKey', 'Object not found'));
    expect(await one.size('s/a/p/b')).toBeNull();
  });

  const limits = (ofBucket: number | null, ofProject: string | undefined): typeof answer => {
    return ({ method, url }, response) => {
      if (method === 'OPTIONS' && url === '/storage/v1/upload/resumable') {
        if (ofProject !== undefined) response.setHeader('tus-max-size', ofProject);
        return void response.end();
      }
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ id: 'workspaces', name: 'workspaces', file_size_limit: ofBucket }));
    };
  };

  it.each([
    [null, undefined, null],
    [5_000_000, undefined, 5_000_000],
    [null, '20000000', 20_000_000],
    [50_000_000, '20000000', 20_000_000],
    [5_000_000, 'many', 5_000_000],
  ])('tells its limit: bucket %s, project %s', async (ofBucket, ofProject, limit) => {
    expect(await (await storage(limits(ofBucket, ofProject))).sizeLimit()).toBe(limit);
  });

  it('that is away is storage_unavailable', async () => {
    const one = workspaceStorage(connectDatabase('http://127.0.0.1:9', 'key', 2_000));
    await expect(one.signUpload('s/a/p/b')).rejects.toMatchObject({ code: 'storage_unavailable' });
  });
});
