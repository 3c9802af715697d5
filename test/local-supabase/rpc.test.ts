import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Project, startProject } from './project.ts';

let project: Project;
beforeAll(async () => {
  project = await startProject({ statementTimeoutMs: { anon: 200 } });
});
afterAll(() => project.close());

const rpc = (name: string, args?: Record<string, unknown>, options?: { get?: boolean; head?: boolean }) =>
  project.service.rpc(name, args, options);

describe('results', () => {
  test('a set of rows is an array, and times are ISO 8601', async () => {
    const { data, status } = await rpc('items_of', { p_kind: 'a' });
    expect(status).toBe(200);
    expect(data).toHaveLength(2);
    expect(data[0]).toMatchObject({ id: 1, made_at: '2026-11-22T20:37:11.882+00:00', data: { k: 1 } });
  });

  test('one composite is an object, all null when the function returned null', async () => {
    expect((await rpc('item_of', { p_id: 1 })).data).toMatchObject({ id: 1, name: 'plain' });
    expect((await rpc('item_of', { p_id: 99 })).data).toMatchObject({ id: null, name: null });
    expect((await rpc('item_of', { p_id: 1 }).single()).data).toMatchObject({ id: 1 });
  });

  test('a table result, a set of scalars, an empty set', async () => {
    expect((await rpc('pairs')).data).toEqual([
      { left_side: 1, right_side: 'one' },
      { left_side: 2, right_side: 'two' },
    ]);
    expect((await rpc('numbers', { p_max: 3 })).data).toEqual([1, 2, 3]);
    expect((await rpc('items_of', { p_kind: 'none' })).data).toEqual([]);
  });

  test('scalars are bare values', async () => {
    expect((await rpc('add', { a: 1, b: 2 })).data).toBe(3);
    expect((await rpc('echo_text', { p: 'a "b" \\ ü\n' })).data).toBe('a "b" \\ ü\n');
    expect((await rpc('echo_text', { p: null })).data).toBeNull();
    expect((await rpc('echo_list', { p: ['a', 'b,c'] })).data).toEqual(['a', 'b,c']);
  });

  test.each([[{ a: [1, { b: null }] }], [[1, 2]], ['text'], [true], [0]])(
    'jsonb %j comes back as it went',
    async (value) => {
      expect((await rpc('echo', { p: value })).data).toEqual(value);
    },
  );

  test('void is 204 without a body, and the function ran once', async () => {
    const { data, status, error } = await rpc('note_call', { p_note: 'once' });
    expect([data, status, error]).toEqual([null, 204, null]);
    expect((await project.service.from('calls').select().eq('note', 'once')).data).toHaveLength(1);
  });

  test('no more than 1000 rows come', async () => {
    expect((await rpc('numbers', { p_max: 1500 })).data).toHaveLength(1000);
    expect((await rpc('numbers', { p_max: 1500 }).limit(1200)).data).toHaveLength(1000);
    expect((await rpc('numbers', { p_max: 1500 }).range(2, 3)).data).toEqual([3, 4]);
  });

  test('filters, order, columns and limits apply to the rows of a function', async () => {
    const { data } = await rpc('items_of', { p_kind: 'a' })
      .select('id')
      .gt('id', 0)
      .order('id', { ascending: false })
      .limit(1);
    expect(data).toEqual([{ id: 2 }]);
  });

  test('single: 406 unless there is exactly one row, and then nothing was changed', async () => {
    const many = await rpc('note_all', { p_notes: ['x', 'y'] }).single();
    expect(many).toMatchObject({
      status: 406,
      error: { code: 'PGRST116', details: 'The result contains 2 rows' },
    });
    expect((await project.service.from('calls').select().in('note', ['x', 'y'])).data).toEqual([]);
    expect((await rpc('items_of', { p_kind: 'none' }).single()).status).toBe(406);
    expect((await rpc('items_of', { p_kind: 'none' }).maybeSingle()).data).toBeNull();
    expect((await rpc('items_of', { p_kind: 'c' }).single()).data).toMatchObject({ id: 6 });
  });
});

describe('arguments', () => {
  test('those with a default may be left out', async () => {
    expect((await rpc('items_of', { p_kind: 'a', p_limit: 1 })).data).toHaveLength(1);
  });

  test('GET passes them in the query and is read only', async () => {
    expect((await rpc('add', { a: 1, b: 2 }, { get: true })).data).toBe(3);
    expect((await rpc('echo_list', { p: ['a', 'b'] }, { get: true })).data).toEqual(['a', 'b']);
    const { status, error } = await rpc('note_call', { p_note: 'got' }, { get: true });
    expect([status, error?.code]).toEqual([405, '25006']);
  });

  test('HEAD answers without a body', async () => {
    expect(await rpc('items_of', { p_kind: 'a' }, { head: true })).toMatchObject({
      status: 200,
      data: null,
      error: null,
    });
  });

  test.each([
    ['missing', { a: 1 }],
    ['unknown', { a: 1, b: 2, c: 3 }],
  ])('a name that is %s: 404 PGRST202', async (_, args) => {
    expect(await rpc('add', args)).toMatchObject({ status: 404, error: { code: 'PGRST202' } });
  });

  test('a value of the wrong type is 400', async () => {
    expect(await rpc('add', { a: 'x', b: 2 })).toMatchObject({ status: 400, error: { code: '22P02' } });
  });

  test('what cannot be called is refused, not guessed', async () => {
    expect((await rpc('overloaded', { a: 1 })).status).toBe(300);
    expect((await rpc('loose', { p: [1] })).status).toBe(501);
    expect((await rpc('numbers', { p_max: 3 }).eq('x', 1)).status).toBe(501);
  });

  test.each([
    `'); drop table public.items; --`,
    `$1`,
    `\\'; select 1`,
    `"a"; drop table items`,
    `$$; drop table items; $$`,
  ])('text %j stays text, as value, argument name and function name', async (text) => {
    expect((await rpc('echo_text', { p: text })).data).toBe(text);
    expect((await rpc('echo_text', { p: text }, { get: true })).data).toBe(text);
    expect((await rpc('echo_text', { [text]: 1 })).status).toBe(404);
    expect((await rpc(encodeURIComponent(text))).status).toBe(404);
    expect((await rpc('items_of', { p_kind: text }).eq('name', text)).data).toEqual([]);
  });
});

describe('errors', () => {
  test.each([
    ['PT409', 409],
    ['PT404', 404],
    ['P0001', 400],
    ['22023', 400],
    ['23505', 409],
    ['23503', 409],
    ['23514', 400],
    ['25006', 405],
    ['28000', 403],
    ['42501', 403],
    ['42883', 404],
    ['53300', 503],
    ['54001', 500],
    ['57014', 500],
    ['XX000', 500],
  ])('SQLSTATE %s is HTTP %i, with code, details, hint and message', async (state, status) => {
    const answer = await rpc('fail_with', { p_state: state });
    expect(answer.status).toBe(status);
    expect(answer.error).toMatchObject({
      code: state,
      message: `refused: ${state}`,
      details: 'the_code',
      hint: 'a hint',
    });
  });

  test('a statement that takes too long ends', async () => {
    const { status, error } = await project.anonymous.rpc('slow', { p_seconds: 30 });
    expect([status, error?.code]).toEqual([500, '57014']);
  });

  test('a failed call leaves nothing behind on its connection', async () => {
    for (let i = 0; i < 12; i++) await rpc('fail_with', { p_state: 'P0001' });
    expect((await rpc('who')).data).toMatchObject({ user: 'service_role', timeout: '8s' });
  });
});

test.each([
  ['break_off', 'PGRST001'],
  ['break_at_commit', '08006'],
])('a connection that breaks: %s is 503 %s, as only the second may have been made', async (name, code) => {
  expect(await rpc(name)).toMatchObject({ status: 503, error: { code } });
  expect((await rpc('add', { a: 1, b: 2 })).data).toBe(3);
});

test('an instant given from outside is the time of the functions', async () => {
  const driven = await startProject({ now: () => new Date('2030-01-02T03:04:05.678Z') });
  try {
    expect((await driven.service.rpc('clock')).data).toBe('2030-01-02T03:04:05.678+00:00');
  } finally {
    await driven.close();
  }
});
