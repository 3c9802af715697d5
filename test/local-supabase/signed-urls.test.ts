import { createHmac } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Project, startProject } from './project.ts';

const START = Date.UTC(2030, 0, 1);
let clock = START;
let project: Project;
beforeAll(async () => {
  project = await startProject({ now: () => new Date(clock) });
  await project.service.storage.createBucket('files', { public: false, fileSizeLimit: 1000 });
});
afterAll(() => project.close());

const files = () => project.service.storage.from('files');
const put = (url: string, body: string | Uint8Array<ArrayBuffer>) => fetch(url, { method: 'PUT', body });

async function uploadUrl(key: string, options?: { upsert: boolean }): Promise<string> {
  const { data, error } = await files().createSignedUploadUrl(key, options);
  if (error) throw error;
  return data.signedUrl;
}

async function downloadUrl(key: string, seconds = 60): Promise<string> {
  const { data, error } = await files().createSignedUrl(key, seconds);
  if (error) throw error;
  return data.signedUrl;
}

async function refusal(response: Response): Promise<unknown[]> {
  const body = (await response.json()) as { statusCode: string; code: string };
  return [response.status, body.statusCode, body.code];
}

describe('upload URLs', () => {
  test('whoever has one may put the object, without a key', async () => {
    const url = await uploadUrl('s/one');
    const response = await put(url, 'by url');
    expect([response.status, await response.json()]).toMatchObject([200, { Key: 'files/s/one' }]);
    expect(await (await files().download('s/one')).data?.text()).toBe('by url');
    const { data } = await files().createSignedUploadUrl('s/two');
    expect((await files().uploadToSignedUrl('s/two', data!.token, 'x')).data?.fullPath).toBe('files/s/two');
  });

  test('once only, unless it was signed for more', async () => {
    const url = await uploadUrl('s/twice');
    await put(url, 'first');
    expect(await refusal(await put(url, 'second'))).toEqual([400, '409', 'KeyAlreadyExists']);
    expect((await files().createSignedUploadUrl('s/twice')).error).toMatchObject({ statusCode: '409' });
    const again = await uploadUrl('s/twice', { upsert: true });
    expect((await put(again, 'third')).status).toBe(200);
    expect((await put(again, 'fourth')).status).toBe(200);
  });

  test('the limit of the bucket holds', async () => {
    expect(await refusal(await put(await uploadUrl('s/big'), new Uint8Array(1001)))).toEqual([
      400,
      '413',
      'EntityTooLarge',
    ]);
  });

  test('they live for two hours', async () => {
    const url = await uploadUrl('s/late');
    clock += 2 * 3_600_000;
    expect(await refusal(await put(url, 'x'))).toEqual([400, '400', 'InvalidJWT']);
    clock -= 1_000;
    expect((await put(url, 'x')).status).toBe(200);
  });

  test('a bucket that is not there', async () => {
    expect((await project.service.storage.from('none').createSignedUploadUrl('x')).error).toMatchObject({
      statusCode: '404',
      code: 'NoSuchBucket',
    });
  });
});

describe('download URLs', () => {
  beforeAll(async () => {
    await files().upload('d/one', 'one');
    await files().upload('d/two', 'two');
  });

  test('whoever has one may read the object until it ends, ranges too', async () => {
    const url = await downloadUrl('d/one', 60);
    expect(await (await fetch(url)).text()).toBe('one');
    expect((await fetch(url, { headers: { range: 'bytes=1-1' } })).status).toBe(206);
    clock += 60_000;
    expect(await refusal(await fetch(url))).toEqual([400, '400', 'InvalidJWT']);
  });

  test('download= asks for a file name', async () => {
    const { data } = await files().createSignedUrl('d/one', 60, { download: 'my name.txt' });
    expect((await fetch(data!.signedUrl)).headers.get('content-disposition')).toContain(
      "filename*=UTF-8''my%20name.txt",
    );
  });

  test('only for what exists', async () => {
    expect((await files().createSignedUrl('d/none', 60)).error).toMatchObject({
      status: 400,
      statusCode: '404',
    });
    expect((await files().createSignedUrl('d/one', 0)).error).toMatchObject({ status: 400 });
  });

  test('many at once, 1000 at most', async () => {
    const { data } = await files().createSignedUrls(['d/one', 'd/none', 'd/two'], 60);
    expect(data?.map(({ path, error }) => [path, error === null])).toEqual([
      ['d/one', true],
      ['d/none', false],
      ['d/two', true],
    ]);
    expect(await (await fetch(data![2]!.signedUrl!)).text()).toBe('two');
    const many = Array.from({ length: 1001 }, (_, n) => `d/${n}`);
    expect((await files().createSignedUrls(many, 60)).error).toMatchObject({ status: 400 });
    expect((await files().createSignedUrls(many.slice(1), 60)).data).toHaveLength(1000);
  });
});

describe('tokens that are refused', () => {
  test.each([
    [
      'every part changed by a character',
      (token: string) => token.split('.').map((part, n, all) => all.with(n, flip(part)).join('.')),
    ],
    [
      'cut short, doubled, empty parts',
      (token: string) => [
        token.slice(0, -2),
        `${token}.x`,
        '..',
        'x',
        `${token.split('.').slice(0, 2).join('.')}.`,
      ],
    ],
    [
      'no algorithm',
      (token: string) => [[encode({ alg: 'none', typ: 'JWT' }), token.split('.')[1], ''].join('.')],
    ],
  ])('%s', async (_, variants) => {
    const url = new URL(await downloadUrl('d/one'));
    for (const token of variants(url.searchParams.get('token')!)) {
      url.searchParams.set('token', token);
      expect([token, await refusal(await fetch(url))]).toEqual([token, [400, '400', 'InvalidJWT']]);
    }
    url.searchParams.delete('token');
    expect((await fetch(url)).status).toBe(400);
  });

  test('signed with another secret', async () => {
    const url = new URL(await downloadUrl('d/one'));
    const signed = url.searchParams.get('token')!.split('.').slice(0, 2).join('.');
    const forge = (secret: string, text = signed) =>
      `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
    url.searchParams.set('token', forge(project.supabase.secretKey));
    expect((await fetch(url)).status).toBe(400);
    const secret = (await readFile(join(project.stateDir, 'keys', 'jwt'), 'utf8')).trim();
    url.searchParams.set('token', forge(secret));
    expect((await fetch(url)).status).toBe(200);
    const otherHeader = `${encode({ alg: 'HS512', typ: 'JWT' })}.${signed.split('.')[1]}`;
    url.searchParams.set('token', forge(secret, otherHeader));
    expect((await fetch(url)).status).toBe(400);
  });

  test('for another object, or for the other direction', async () => {
    const download = new URL(await downloadUrl('d/one'));
    const elsewhere = new URL(await downloadUrl('d/two'));
    elsewhere.search = download.search;
    expect(await refusal(await fetch(elsewhere))).toEqual([400, '400', 'InvalidSignature']);

    const upload = new URL(await uploadUrl('d/new'));
    const asUpload = new URL(await uploadUrl('d/one', { upsert: true }));
    const asDownload = new URL(download);
    asDownload.search = asUpload.search;
    expect(await refusal(await fetch(asDownload))).toEqual([400, '400', 'InvalidSignature']);
    asUpload.search = download.search;
    expect(await refusal(await put(asUpload.href, 'x'))).toEqual([400, '400', 'InvalidSignature']);
    upload.pathname = upload.pathname.replace('d/new', 'd/two');
    expect(await refusal(await put(upload.href, 'x'))).toEqual([400, '400', 'InvalidSignature']);
    expect(await (await fetch(await downloadUrl('d/two'))).text()).toBe('two');
  });
});

/** Another first character: the last one may hold bits that mean nothing. */
function flip(text: string): string {
  return (text.startsWith('A') ? 'B' : 'A') + text.slice(1);
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
