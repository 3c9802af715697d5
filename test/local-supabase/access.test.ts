import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { clientFor, type Project, startProject } from './project.ts';

let project: Project;
beforeAll(async () => {
  project = await startProject();
});
afterAll(() => project.close());

const OLD_KEY = 'eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.c2lnbmF0dXJl';

function call(headers: Record<string, string>): Promise<Response> {
  return fetch(`${project.supabase.url}/rest/v1/rpc/add?a=1&b=2`, { headers });
}

test('the key decides the role', async () => {
  expect((await project.service.rpc('who')).data).toMatchObject({
    user: 'service_role',
    claims: { role: 'service_role' },
    timeout: '8s',
  });
  expect((await project.anonymous.rpc('add', { a: 1, b: 2 })).data).toBe(3);
  expect(await project.anonymous.rpc('who')).toMatchObject({ status: 401, error: { code: '42501' } });
});

test('no key, a wrong key, an old key: 401 and a reason', async () => {
  const { secretKey } = project.supabase;
  const cases: [Record<string, string>, RegExp][] = [
    [{}, /No API key/],
    [{ authorization: `Bearer ${secretKey}` }, /No API key/],
    [{ apikey: 'sb_secret_wrong' }, /Invalid API key/],
    [{ apikey: `${secretKey}x` }, /Invalid API key/],
    [{ apikey: secretKey, authorization: 'Bearer other' }, /Invalid API key/],
    [{ apikey: OLD_KEY }, /JWT/],
    [{ apikey: secretKey, authorization: `Bearer ${OLD_KEY}` }, /JWT/],
    [{ apikey: secretKey, 'user-agent': 'Mozilla/5.0' }, /browser/],
  ];
  for (const [headers, message] of cases) {
    const response = await call(headers);
    expect([headers, response.status]).toEqual([headers, 401]);
    expect(((await response.json()) as { message: string }).message).toMatch(message);
  }
  expect((await call({ apikey: secretKey })).status).toBe(200);
});

test('supabase-js shows the refusal as an error, for functions and for files', async () => {
  const stranger = clientFor(project.supabase.url, 'sb_secret_of_somebody_else');
  expect(await stranger.rpc('who')).toMatchObject({ status: 401, error: { message: 'Invalid API key' } });
  expect((await stranger.storage.listBuckets()).error).toMatchObject({ statusCode: '401' });
});

test('the publishable key neither sees nor makes objects', async () => {
  await project.service.storage.createBucket('closed', { public: false });
  await project.service.storage.from('closed').upload('a', 'a');
  const closed = project.anonymous.storage.from('closed');
  expect((await closed.download('a')).error).toMatchObject({ status: 400, statusCode: '404' });
  expect((await closed.list()).data).toEqual([]);
  expect((await closed.remove(['a'])).data).toEqual([]);
  expect((await closed.upload('b', 'b')).error).not.toBeNull();
  expect((await closed.createSignedUrl('a', 60)).error).not.toBeNull();
  expect((await project.anonymous.storage.createBucket('mine')).error).not.toBeNull();
  expect((await project.service.storage.from('closed').list()).data).toHaveLength(1);
});

test('keys are random, for their owner only, and kept', async () => {
  const { secretKey, publishableKey, secretKeyFile } = project.supabase;
  expect(secretKey).toMatch(/^sb_secret_[\w-]{32}$/);
  expect(publishableKey).toMatch(/^sb_publishable_[\w-]{32}$/);
  expect((await readFile(secretKeyFile, 'utf8')).trim()).toBe(secretKey);
  const dir = join(project.stateDir, 'keys');
  for (const name of await readdir(dir))
    expect([name, (await stat(join(dir, name))).mode & 0o777]).toEqual([name, 0o600]);
});
