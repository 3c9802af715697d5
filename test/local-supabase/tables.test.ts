import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Project, startProject } from './project.ts';

let project: Project;
beforeAll(async () => {
  project = await startProject();
});
afterAll(() => project.close());

const items = () => project.service.from('items');
const ids = (rows: { id: number }[] | null) => rows?.map((row) => row.id).sort();

describe('filters', () => {
  test('comparisons', async () => {
    expect(ids((await items().select('id').eq('kind', 'a')).data)).toEqual([1, 2]);
    expect(ids((await items().select('id').neq('kind', 'a')).data)).toEqual([3, 4, 6]);
    expect(ids((await items().select('id').gt('id', 4)).data)).toEqual([5, 6]);
    expect(ids((await items().select('id').gte('id', 2).lt('id', 4)).data)).toEqual([2, 3]);
    expect(ids((await items().select('id').lte('price', 0)).data)).toEqual([5]);
    expect(
      ids((await items().select('id').gt('made_at', '2026-11-22T20:37:11.881Z').limit(1)).data),
    ).toHaveLength(1);
  });

  test('patterns', async () => {
    expect(ids((await items().select('id').like('name', '%comma')).data)).toEqual([2]);
    expect(ids((await items().select('id').like('name', 'PL*')).data)).toEqual([]);
    expect(ids((await items().select('id').ilike('name', 'PL*')).data)).toEqual([1]);
  });

  test('null and not', async () => {
    expect(ids((await items().select('id').is('kind', null)).data)).toEqual([5]);
    expect(ids((await items().select('id').not('kind', 'is', null)).data)).toEqual([1, 2, 3, 4, 6]);
    expect(ids((await items().select('id').not('kind', 'in', '(a,b)')).data)).toEqual([6]);
  });

  test('lists with commas, quotes, backslashes and braces in their values', async () => {
    const names = ['with, comma', 'with "quotes" and \\back', '{brace}'];
    expect(ids((await items().select('id').in('name', names)).data)).toEqual([2, 3, 6]);
    expect((await items().select('id').in('name', [])).data).toEqual([]);
  });

  test('or, and, nested', async () => {
    expect(ids((await items().select('id').or('id.eq.1,kind.is.null')).data)).toEqual([1, 5]);
    expect(
      ids((await items().select('id').or('and(kind.eq.a,id.gt.1),name.eq."with, comma",id.in.(4,5)')).data),
    ).toEqual([2, 4, 5]);
    expect(ids((await items().select('id').or('not.and(id.gt.1,id.lt.6),id.eq.3')).data)).toEqual([1, 3, 6]);
  });

  test.each([
    'id=eq',
    'id=nope.1',
    'or=id.eq.1',
    'or=(id.eq.1',
    'or=(id)',
    'or=()',
    'id=in.1',
    'id=is.maybe',
    'limit=x',
  ])('%s can not be read: 400', async (search) => {
    const response = await get(`items?${search}`);
    expect([response.status, ((await response.json()) as { code: string }).code]).toEqual([400, 'PGRST100']);
  });
});

describe('pages', () => {
  test('order, limit, offset', async () => {
    const { data } = await items()
      .select('id,price')
      .order('price', { ascending: false, nullsFirst: false })
      .order('id')
      .range(1, 2);
    expect(data).toEqual([
      { id: 3, price: 3.5 },
      { id: 2, price: 2.5 },
    ]);
    expect((await items().select().limit(0)).data).toEqual([]);
  });

  test('at most 1000 rows', async () => {
    expect((await project.service.from('many').select()).data).toHaveLength(1000);
    expect((await project.service.from('many').select().limit(1200)).data).toHaveLength(1000);
  });

  test('exact counts', async () => {
    const page = await project.service.from('many').select('*', { count: 'exact' }).range(10, 19);
    expect([page.count, page.data?.length, page.status]).toEqual([1500, 10, 206]);
    const head = await project.service.from('many').select('*', { count: 'exact', head: true }).gt('n', 1400);
    expect([head.count, head.data]).toEqual([100, null]);
    const beyond = await project.service.from('many').select('*', { count: 'exact' }).range(2000, 2010);
    expect([beyond.status, beyond.error?.code]).toEqual([416, 'PGRST103']);
  });

  test('single and maybeSingle', async () => {
    expect((await items().select('id').eq('id', 1).single()).data).toEqual({ id: 1 });
    expect((await items().select('id').eq('id', 77).maybeSingle()).data).toBeNull();
    const none = await items().select('id').eq('id', 77).single();
    expect(none).toMatchObject({
      status: 406,
      error: { code: 'PGRST116', details: 'The result contains 0 rows' },
    });
    expect((await items().select('id').single()).status).toBe(406);
  });
});

describe('what is refused', () => {
  test('unknown tables and columns', async () => {
    expect(await project.service.from('nothing').select()).toMatchObject({
      status: 404,
      error: { code: 'PGRST205' },
    });
    expect(await items().select('nothing')).toMatchObject({ status: 400, error: { code: '42703' } });
    expect(await items().select().eq('nothing', 1)).toMatchObject({ status: 400, error: { code: '42703' } });
  });

  test('what a role was not granted', async () => {
    const forbidden = await project.service.from('secrets').select();
    expect(forbidden).toMatchObject({ status: 403, error: { code: '42501' } });
    const anonymous = await project.anonymous.from('items').select();
    expect(anonymous).toMatchObject({ status: 401, error: { code: '42501' } });
  });

  test.each(['insert', 'upsert'] as const)('%s, with a message that names it', async (verb) => {
    const { status, error } = await items()[verb]({ id: 9 });
    expect([status, error?.message]).toEqual([501, expect.stringContaining('POST on a table')]);
  });

  test.each([
    'items?select=id,other(id)',
    'items?select=x:id',
    'items?select=id::text',
    'items?select=data->>k',
    'items?select=id.max()',
    'items?data=cs.{"k":1}',
    'items?name=fts.cat',
    'items?id=eq(any).{1,2}',
    'items?data->>k=eq.1',
    'items?select=id&other.id=eq.1',
  ])('%s: 501', async (path) => {
    expect((await get(path)).status).toBe(501);
  });

  test.each([
    [{ accept: 'text/csv' }, 501],
    [{ prefer: 'count=planned' }, 501],
    [{ range: '0-9' }, 501],
    [{ 'accept-profile': 'auth' }, 406],
  ])('headers %j: %i', async (headers, status) => {
    expect((await get('items', headers as unknown as Record<string, string>)).status).toBe(status);
  });

  test('other parts of Supabase', async () => {
    for (const path of ['/auth/v1/user', '/graphql/v1', '/realtime/v1/websocket', '/rest/v1/', '/']) {
      const response = await fetch(project.supabase.url + path, {
        headers: { apikey: project.supabase.secretKey },
      });
      expect([path, response.status]).toEqual([path, 501]);
    }
  });
});

test('whatever a value is, it is compared as a value', async () => {
  const anyText = fc.string({ unit: 'binary', maxLength: 20 }).filter((text) => !text.includes('\0'));
  await fc.assert(
    fc.asyncProperty(anyText, async (text) => {
      const value = text.toWellFormed();
      expect(await items().select('id').eq('name', value)).toMatchObject({ error: null, data: [] });
      const quoted = `"${value.replace(/["\\]/g, '\\$&')}"`;
      const list = await get(`items?select=id&name=in.${encodeURIComponent(`(${quoted},plain,${quoted})`)}`);
      expect([value, list.status, await list.text()]).toEqual([value, 200, '[{"id":1}]']);
    }),
    { numRuns: 60, examples: [[`' or 1=1 --`], ['","'], ['\\'], ['"'], ['{}'], ['$1'], ['a)']] },
  );
});

test('whatever a column is called, it is quoted', async () => {
  expect((await get(`items?select=${encodeURIComponent('"odd \\"column"')}&id=eq.1`)).status).toBe(200);
  for (const name of ['id" from items; drop table items; --', 'id"', '*/']) {
    const quoted = `"${name.replaceAll('"', '\\"')}"`;
    for (const key of [
      `select=${encodeURIComponent(quoted)}`,
      `${encodeURIComponent(quoted)}=eq.1`,
      `order=${encodeURIComponent(quoted)}`,
    ]) {
      expect([key, (await get(`items?${key}`)).status]).toEqual([key, 400]);
    }
  }
  expect((await items().select('id')).data).toHaveLength(6);
});

function get(path: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${project.supabase.url}/rest/v1/${path}`, {
    headers: { apikey: project.supabase.secretKey, ...headers },
  });
}
