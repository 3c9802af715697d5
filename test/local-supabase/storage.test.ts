import { createHash, randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Project, startProject } from './project.ts';

let project: Project;
beforeAll(async () => {
  project = await startProject();
  await project.service.storage.createBucket('files', { public: false });
  await project.service.storage.createBucket('small', {
    public: false,
    fileSizeLimit: '10KB',
    allowedMimeTypes: ['text/plain', 'image/*'],
  });
});
afterAll(() => project.close());

const files = () => project.service.storage.from('files');
const small = () => project.service.storage.from('small');
const headers = () => ({ apikey: project.supabase.secretKey });
const objectUrl = (path: string) => `${project.supabase.url}/storage/v1/object/${path}`;
/** Names of what is on disk for objects, half-received ones included. */
const onDisk = async () =>
  (
    await Promise.all(['incoming', 'versions'].map((dir) => readdir(join(project.stateDir, 'storage', dir))))
  ).flat();

describe('buckets', () => {
  test('are made once, found and listed', async () => {
    expect((await project.service.storage.createBucket('files')).error).toMatchObject({
      status: 400,
      statusCode: '409',
      code: 'BucketAlreadyExists',
    });
    expect((await project.service.storage.getBucket('small')).data).toMatchObject({
      id: 'small',
      public: false,
      file_size_limit: 10_000,
    });
    expect((await project.service.storage.getBucket('none')).error).toMatchObject({
      status: 400,
      statusCode: '404',
      code: 'NoSuchBucket',
    });
    expect((await project.service.storage.listBuckets()).data?.map((bucket) => bucket.id)).toEqual([
      'files',
      'small',
    ]);
  });

  test('bad names and public ones are refused', async () => {
    expect((await project.service.storage.createBucket('a/b')).error).toMatchObject({
      code: 'InvalidBucketName',
    });
    expect((await project.service.storage.createBucket('open', { public: true })).error).toMatchObject({
      status: 501,
    });
    expect((await project.service.storage.deleteBucket('files')).error).toMatchObject({ status: 501 });
  });
});

describe('uploads', () => {
  test.each<[string, string | Buffer<ArrayBuffer> | Blob]>([
    ['a text', 'hällo'],
    ['a Buffer', Buffer.from([0, 1, 2, 255])],
    ['nothing', Buffer.alloc(0)],
    ['a Blob', new Blob(['from a blob'], { type: 'text/plain' })],
  ])('%s comes back as it went', async (name, body) => {
    const bytes = Buffer.from(await new Response(body).arrayBuffer());
    const key = `up/${name}`;
    const { data, error } = await files().upload(key, body, { cacheControl: '60', metadata: { by: 'me' } });
    expect(error).toBeNull();
    expect(data).toMatchObject({ path: key, fullPath: `files/${key}` });
    const back = await files().download(key);
    expect(Buffer.from(await back.data!.arrayBuffer())).toEqual(bytes);
    const md5 = createHash('md5').update(bytes).digest('hex');
    expect((await files().info(key)).data).toMatchObject({
      name: key,
      size: bytes.length,
      etag: `"${md5}"`,
      cacheControl: 'max-age=60',
      metadata: { by: 'me' },
    });
    expect((await files().exists(key)).data).toBe(true);
  });

  test('a stream of unknown length', async () => {
    const chunks = Array.from({ length: 40 }, () => randomBytes(100_000));
    const { error } = await files().upload(
      'stream',
      Readable.toWeb(Readable.from(chunks)) as ReadableStream,
      {
        duplex: 'half',
        contentType: 'application/octet-stream',
      },
    );
    expect(error).toBeNull();
    const back = await files().download('stream');
    expect(Buffer.from(await back.data!.arrayBuffer()).equals(Buffer.concat(chunks))).toBe(true);
  });

  test('an object is replaced only when asked', async () => {
    await files().upload('once', 'first');
    expect((await files().upload('once', 'second')).error).toMatchObject({
      status: 400,
      statusCode: '409',
      code: 'KeyAlreadyExists',
    });
    expect(await text('once')).toBe('first');
    const before = (await onDisk()).length;
    await files().upload('once', 'third', { upsert: true });
    expect(await text('once')).toBe('third');
    await files().update('once', 'fourth');
    expect(await text('once')).toBe('fourth');
    expect(await onDisk()).toHaveLength(before);
  });

  test('twenty at once of one key: without upsert one wins, with upsert the last stands whole', async () => {
    const body = (n: number) => Buffer.alloc(200_000, n);
    const created = await Promise.all(Array.from({ length: 20 }, (_, n) => files().upload('race', body(n))));
    expect(created.filter(({ error }) => error === null)).toHaveLength(1);
    const before = (await onDisk()).length;
    const reads: Promise<Buffer>[] = [];
    const replaced = await Promise.all(
      Array.from({ length: 20 }, (_, n) => {
        reads.push(bytesOf('race'));
        return files().upload('race', body(n), { upsert: true });
      }),
    );
    expect(replaced.every(({ error }) => error === null)).toBe(true);
    for (const seen of [...(await Promise.all(reads)), await bytesOf('race')]) {
      expect([seen.length, new Set(seen).size]).toEqual([200_000, 1]);
    }
    expect(await onDisk()).toHaveLength(before);
  });

  test.each(['app/[id].tsx', 'a~b', 'ü', '{x}', 'a#b', 'a%b', 'a|b', 'a\\b', 'x/../y', './x', 'a\nb'])(
    'the key %j is refused',
    async (key) => {
      const response = await fetch(objectUrl(`files/${key.split('/').map(encodeSegment).join('/')}`), {
        method: 'POST',
        headers: headers(),
        body: 'x',
      });
      expect([response.status, await response.json()]).toMatchObject([
        400,
        { statusCode: '400', code: 'InvalidKey' },
      ]);
    },
  );

  test('every other character of a key is taken', async () => {
    const key = `A z/0_!.*'() &$@=;:+,?-/x`;
    const response = await fetch(objectUrl(`files/${encodeURIComponent(key)}`), {
      method: 'POST',
      headers: headers(),
      body: 'x',
    });
    expect(response.status).toBe(200);
    expect((await files().list("A z/0_!.*'() &$@=;:+,?-")).data?.map((item) => item.name)).toEqual(['x']);
  });

  test('too large: refused by its length, while it comes, and as a form; nothing stays', async () => {
    const before = await onDisk();
    const refusal = { status: 400, statusCode: '413', code: 'EntityTooLarge' };
    const options = { contentType: 'text/plain' };
    expect((await small().upload('a', Buffer.alloc(10_001), options)).error).toMatchObject(refusal);
    expect(
      (await small().upload('a', new Blob([Buffer.alloc(10_001)], { type: 'text/plain' }))).error,
    ).toMatchObject(refusal);
    const endless = Readable.toWeb(
      Readable.from(Array.from({ length: 30 }, () => Buffer.alloc(1_000))),
    ) as ReadableStream;
    expect((await small().upload('a', endless, { ...options, duplex: 'half' })).error).toMatchObject(refusal);
    expect((await small().upload('a', Buffer.alloc(10_000), options)).error).toBeNull();
    expect(await onDisk()).toHaveLength(before.length + 1);
  });

  test('a type that the bucket does not take, a bucket that is not there', async () => {
    expect((await small().upload('b', 'x', { contentType: 'application/json' })).error).toMatchObject({
      statusCode: '415',
    });
    expect((await small().upload('b', 'x', { contentType: 'image/png' })).error).toBeNull();
    expect((await project.service.storage.from('none').upload('b', 'x')).error).toMatchObject({
      statusCode: '404',
      code: 'NoSuchBucket',
    });
  });

  test('one that is cut off leaves nothing', async () => {
    const before = await onDisk();
    const upload = request(objectUrl('files/half'), {
      method: 'POST',
      headers: { ...headers(), 'content-type': 'application/octet-stream', 'content-length': 5_000_000 },
    });
    upload.on('error', () => {});
    upload.write(Buffer.alloc(2_000_000));
    await vi.waitFor(async () => expect(await onDisk()).toHaveLength(before.length + 1), { timeout: 10_000 });
    upload.destroy();
    await vi.waitFor(async () => expect(await onDisk()).toEqual(before), { timeout: 10_000 });
    expect((await files().exists('half')).data).toBe(false);
  });
});

describe('downloads', () => {
  beforeAll(async () => {
    await files().upload('ten', '0123456789', { contentType: 'text/plain' });
  });

  test.each([
    ['bytes=0-3', 206, '0123', 'bytes 0-3/10'],
    ['bytes=7-', 206, '789', 'bytes 7-9/10'],
    ['bytes=-2', 206, '89', 'bytes 8-9/10'],
    ['bytes=5-999', 206, '56789', 'bytes 5-9/10'],
    ['lines=1-2', 200, '0123456789', null],
  ])('range %s', async (range, status, body, contentRange) => {
    const response = await fetch(objectUrl('files/ten'), { headers: { ...headers(), range } });
    expect([response.status, await response.text(), response.headers.get('content-range')]).toEqual([
      status,
      body,
      contentRange,
    ]);
    expect(response.headers.get('accept-ranges')).toBe('bytes');
  });

  test('a range beyond the end', async () => {
    const response = await fetch(objectUrl('files/ten'), { headers: { ...headers(), range: 'bytes=10-' } });
    expect([response.status, await response.json()]).toMatchObject([400, { statusCode: '416' }]);
  });

  test('HEAD, the authenticated path, and not again what is known', async () => {
    const head = await fetch(objectUrl('files/ten'), { method: 'HEAD', headers: headers() });
    expect([head.status, head.headers.get('content-length'), head.headers.get('content-type')]).toEqual([
      200,
      '10',
      'text/plain',
    ]);
    expect((await fetch(objectUrl('authenticated/files/ten'), { headers: headers() })).status).toBe(200);
    const again = { ...headers(), 'if-none-match': head.headers.get('etag')! };
    expect((await fetch(objectUrl('files/ten'), { headers: again })).status).toBe(304);
  });

  test('what is not there: status 400 around a 404', async () => {
    const response = await fetch(objectUrl('files/none'), { headers: headers() });
    expect([response.status, await response.json()]).toMatchObject([
      400,
      { statusCode: '404', error: 'not_found', code: 'NoSuchKey' },
    ]);
    expect((await files().info('none')).error).toMatchObject({ statusCode: '404' });
  });
});

describe('lists, moves and removals', () => {
  test('a list shows one level, folders first', async () => {
    for (const key of ['tree/b', 'tree/a', 'tree/z/1', 'tree/z/2', 'tree/A1', 'treetop'])
      await files().upload(key, 'x');
    const names = async (...args: Parameters<ReturnType<typeof files>['list']>) =>
      (await files().list(...args)).data?.map((item) => item.name);
    expect(await names('tree')).toEqual(['z', 'A1', 'a', 'b']);
    expect(await names('tree/z')).toEqual(['1', '2']);
    expect(await names('tree', { limit: 2, offset: 1 })).toEqual(['A1', 'a']);
    expect(await names('tree', { sortBy: { column: 'name', order: 'desc' } })).toEqual(['z', 'b', 'a', 'A1']);
    expect(await names('tree', { search: 'a' })).toEqual(['A1', 'a']);
    const [folder, file] = (await files().list('tree')).data!;
    expect(folder).toMatchObject({ id: null, metadata: null });
    expect(file).toMatchObject({
      name: 'A1',
      metadata: { size: 1, eTag: expect.stringMatching(/^"\w{32}"$/) },
    });
    expect(
      (await files().list('tree', { sortBy: { column: 'name; drop table storage.objects', order: 'asc' } }))
        .error,
    ).not.toBeNull();
  });

  test('remove answers what was there, 1000 at most', async () => {
    await files().upload('r/1', 'x');
    await files().upload('r/2', 'x');
    const before = (await onDisk()).length;
    const { data } = await files().remove(['r/1', 'r/none', 'r/2']);
    expect(data?.map((row) => row.name).sort()).toEqual(['r/1', 'r/2']);
    expect(await onDisk()).toHaveLength(before - 2);
    const many = Array.from({ length: 1001 }, (_, n) => `r/${n}`);
    expect((await files().remove(many)).error).toMatchObject({ status: 400 });
    expect((await files().remove(many.slice(1))).data).toEqual([]);
  });

  test('move and copy keep the bytes and never overwrite unasked', async () => {
    await files().upload('m/from', 'moved', { metadata: { k: 'v' } });
    await files().upload('m/other', 'other');
    expect((await files().move('m/from', 'm/other')).error).toMatchObject({ statusCode: '409' });
    expect((await files().move('m/from', 'm/to')).data).toEqual({ message: 'Successfully moved' });
    expect((await files().exists('m/from')).data).toBe(false);
    expect((await files().copy('m/to', 'm/copy')).data).toEqual({ path: 'files/m/copy' });
    expect((await files().copy('m/to', 'm/other')).error).toMatchObject({ statusCode: '409' });
    expect((await files().copy('m/none', 'm/x')).error).toMatchObject({ statusCode: '404' });
    await files().remove(['m/to']);
    expect(await text('m/copy')).toBe('moved');
    expect((await files().info('m/copy')).data?.metadata).toEqual({ k: 'v' });
  });
});

test('other calls of Storage: 501', async () => {
  for (const [method, path] of [
    ['POST', 'object/list-v2/files'],
    ['GET', 'object/public/files/ten'],
    ['POST', 'upload/resumable'],
    ['GET', 's3/files'],
    ['GET', 'render/image/authenticated/files/ten'],
    ['POST', 'bucket/files/empty'],
  ] as const) {
    const response = await fetch(`${project.supabase.url}/storage/v1/${path}`, {
      method,
      headers: headers(),
    });
    expect([path, response.status]).toEqual([path, 501]);
  }
});

/** Dots and slashes too, which a URL would otherwise resolve. */
function encodeSegment(segment: string): string {
  return segment === '.' || segment === '..' ? `%2F${segment}%2F` : encodeURIComponent(segment);
}

async function bytesOf(key: string): Promise<Buffer> {
  const { data, error } = await files().download(key);
  if (error) throw error;
  return Buffer.from(await data.arrayBuffer());
}

async function text(key: string): Promise<string> {
  return (await bytesOf(key)).toString();
}
