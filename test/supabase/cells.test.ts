import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { type Calls, callsOn } from './calls.ts';
import { type FreshDatabase, freshDatabase } from './database.ts';
import { refusal } from './rpc.ts';

let database: FreshDatabase;
let db: Calls;
const opened: FreshDatabase[] = [];
beforeEach(async () => {
  database = await freshDatabase();
  opened.push(database);
  db = callsOn(database.pool);
});
afterAll(() => Promise.all(opened.map((one) => one.close())));

const apps = (cells: { app: string }[]) => cells.map(({ app }) => app);
const events = async () =>
  (await database.pool.query('select app, kind, actor, reason, data from cell_events order by id')).rows;

describe('cells', () => {
  test('are kept by stack; who names none of them is told of all', async () => {
    expect(apps(await db.declare('prod', ['b', 'a']))).toEqual(['a', 'b']);
    expect(apps(await db.declare('prod', ['c', 'a']))).toEqual(['a', 'b', 'c']);
    expect(apps(await db.declare('prod', []))).toEqual(['a', 'b', 'c']);
    expect(apps(await db.declare('preview', ['p']))).toEqual(['p']);
  });

  test('belong to the stack that named them first', async () => {
    await db.declare('prod', ['a']);
    await expect(db.declare('preview', ['p', 'a'])).rejects.toMatchObject(refusal('cell_taken'));
    expect(apps(await db.declare('preview', []))).toEqual([]);
    expect(await db.forget('a', 'preview')).toBe(true);
    expect(apps(await db.declare('prod', []))).toEqual(['a']);
  });

  test('are forgotten when nothing lives in them', async () => {
    await db.declare('prod', ['a', 'b']);
    const { sandbox } = await db.open('s1', undefined, {}, 'a');
    expect(await db.forget('a', 'prod')).toBe(false);
    expect(await db.forget('b', 'prod')).toBe(true);
    expect(apps(await db.declare('prod', []))).toEqual(['a']);
    await db.stop('s1');
    await db.gone(sandbox);
    expect(await db.forget('a', 'prod')).toBe(true);
    expect(await db.forget('a', 'prod')).toBe(true);
    expect(apps(await db.declare('prod', []))).toEqual([]);
  });

  test('leave one event for each change, and none where nothing changed', async () => {
    const at = { now: new Date(Date.UTC(2030, 0, 1)) };
    const [cell] = await db.declare('prod', ['a'], at);
    await db.declare('prod', ['a']);
    await db.forget('a', 'prod');
    expect(await events()).toEqual([
      { app: 'a', kind: 'cell.declared', actor: 'test', reason: null, data: { cell } },
      { app: 'a', kind: 'cell.forgotten', actor: 'test', reason: 'empty', data: { cell: {} } },
    ]);
  });

  test('named by several at once are made once', async () => {
    const all = await Promise.all([
      db.declare('prod', ['a', 'b', 'c']),
      db.declare('prod', ['c', 'b', 'a']),
      db.declare('prod', ['b', 'c', 'd']),
    ]);
    for (const cells of all) expect(apps(cells)).toEqual(expect.arrayContaining(['b', 'c']));
    expect(apps(await db.declare('prod', []))).toEqual(['a', 'b', 'c', 'd']);
    expect((await events()).map(({ app }) => app).sort()).toEqual(['a', 'b', 'c', 'd']);
  });
});
