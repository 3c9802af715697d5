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

describe('a lease', () => {
  const T0 = Date.UTC(2030, 0, 1);
  const at = (ms: number) => ({ now: new Date(T0 + ms) });
  const cellOf = async (app: string) =>
    (await db.renew('http://looker')).cells.find((cell) => cell.app === app)!;

  test('is had once; another gets the cell when it has run out, with a larger token', async () => {
    await db.renew('http://one', ['a'], {}, at(0));
    const first = await db.hold('a', 'http://one', at(0));
    expect(first).toMatchObject({ holder: 'http://one', token: expect.any(Number) });
    expect(await db.hold('a', 'http://two', at(1000))).toEqual(first);
    const second = await db.hold('a', 'http://two', at(1001));
    expect(second.holder).toBe('http://two');
    expect(second.token).toBeGreaterThan(first.token!);
    expect((await events()).map(({ kind, reason }) => [kind, reason])).toEqual([
      ['cell.declared', null],
      ['cell.held', 'free'],
      ['cell.held', 'expired'],
    ]);
  });

  test('is renewed by its holder in time, silently, and not when it has run out or is another’s', async () => {
    await db.renew('http://one', ['a', 'b', 'c'], {}, at(0));
    const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((app) => db.hold(app, 'http://one', at(0))));
    const before = (await events()).length;
    const held = { a: a!.token!, b: b!.token! - 1 };
    const { cells } = await db.renew('http://one', [], held, at(900));
    expect(cells.map(({ app, expires_at }) => [app, Date.parse(expires_at!) - T0])).toEqual([
      ['a', 1900],
      // With a token of before: a process that is gone.
      ['b', 1000],
      ['c', 1000],
    ]);
    expect((await events()).length).toBe(before);
    const late = await db.renew('http://one', [], { a: a!.token!, c: c!.token! }, at(1901));
    expect(late.cells.map(({ app, free }) => [app, free])).toEqual([
      ['a', true],
      ['b', true],
      ['c', true],
    ]);
  });

  test('is had at once from the same address, where the process before must be gone', async () => {
    await db.renew('http://one', ['a'], {}, at(0));
    const before = await db.hold('a', 'http://one', at(0));
    const after = await db.hold('a', 'http://one', at(10));
    expect(after.token).toBeGreaterThan(before.token!);
    expect((await events()).at(-1)).toMatchObject({ kind: 'cell.held', reason: 'restarted' });
  });

  test('is given back by its token alone', async () => {
    await db.renew('http://one', ['a']);
    const { token } = await db.hold('a', 'http://one', {}, 60_000);
    await db.releaseCell('a', token! - 1);
    expect(await cellOf('a')).toMatchObject({ holder: 'http://one', free: false });
    await db.releaseCell('a', token!);
    await db.releaseCell('a', token!);
    expect(await cellOf('a')).toMatchObject({ holder: null, expires_at: null, token, free: true });
    expect((await events()).map(({ kind }) => kind)).toEqual(['cell.declared', 'cell.held', 'cell.released']);
  });

  test('that several want at once is had by one', async () => {
    await db.renew('http://one', ['a']);
    const all = await Promise.all([1, 2, 3, 4].map((n) => db.hold('a', `http://${n}`, {}, 60_000)));
    expect(new Set(all.map(({ holder }) => holder)).size).toBe(1);
    expect((await events()).filter(({ kind }) => kind === 'cell.held')).toHaveLength(1);
  });

  test('makes controllers known to each other while they are alive', async () => {
    await db.renew('http://one', [], {}, at(0));
    expect((await db.renew('http://two', [], {}, at(500))).controllers).toEqual(['http://one', 'http://two']);
    expect((await db.renew('http://two', [], {}, at(1001))).controllers).toEqual(['http://two']);
    await db.leave('http://two');
    expect((await db.renew('http://one', [], {}, at(1002))).controllers).toEqual(['http://one']);
  });

  test('is renewed by who says whether it reaches Fly, and is told who does, and the time', async () => {
    await db.renew('http://one', [], {}, at(0), 1000, false);
    // A controller of before says nothing of it.
    expect(await db.renew('http://two', [], {}, at(500))).toMatchObject({
      controllers: ['http://one', 'http://two'],
      able: ['http://two'],
      now: expect.stringMatching(/^2030-01-01T00:00:00.5\+00:00$/),
    });
    expect(await db.renew('http://one', [], {}, at(600), 1000, true)).toMatchObject({
      able: ['http://one', 'http://two'],
    });
    expect((await db.renew('http://one', [], {}, at(9_000), 1000, false)).able).toEqual([]);
  });

  test('that was taken over refuses what its old holder still does, whatever the sandbox’s own fence', async () => {
    await db.renew('http://one', ['a'], {}, at(0));
    const old = (await db.hold('a', 'http://one', at(0))).token!;
    const { sandbox } = await db.open('s1', undefined, at(0), 'a');
    await db.underLease('sandbox_created', sandbox, old, { p_machine_id: 'm1', p_region: 'sjc' });
    const now = (await db.hold('a', 'http://two', at(5000))).token!;
    const gone = { p_reason: 'lost', p_error: null };
    for (const [move, more] of [
      ['sandbox_created', { p_machine_id: 'm1', p_region: 'sjc' }],
      ['sandbox_ready', {}],
      ['sandbox_stop', { p_reason: 'max_age' }],
      ['sandbox_destroying', { p_reason: 'session_start_timeout' }],
      ['sandbox_gone', gone],
    ] as const) {
      await expect(db.underLease(move, sandbox, old, more), move).rejects.toMatchObject(refusal('fenced'));
    }
    expect(await db.underLease('sandbox_ready', sandbox, now)).toMatchObject([{ state: 'ready' }]);
    await db.releaseCell('a', now);
    await expect(db.underLease('sandbox_destroying', sandbox, now, { p_reason: 'x' })).rejects.toMatchObject(
      refusal('fenced'),
    );
    // A controller of before names no lease.
    expect(await db.destroying(sandbox)).toMatchObject({ state: 'destroying' });
  });

  test('waits for a move that is under way when it is taken over: they do not cross', async () => {
    await db.renew('http://one', ['a'], {}, at(0));
    const old = (await db.hold('a', 'http://one', at(0))).token!;
    const { sandbox } = await db.open('s1', undefined, at(0), 'a');
    const mover = await database.pool.connect();
    try {
      await mover.query('begin');
      await mover.query('select public.sandbox_created($1, $2, $3, $4, $5, $6)', [
        ...[sandbox.name, sandbox.fence, 'm1', 'sjc', 'test', old],
      ]);
      let taken = false;
      const take = db.hold('a', 'http://two', at(5000)).then(() => {
        taken = true;
      });
      // Either it waits for a lock, or it has not been refused one and is done.
      await expect
        .poll(async () => taken || (await database.pool.query(WAITING)).rows[0].waiting === 1)
        .toBe(true);
      expect(taken).toBe(false);
      await mover.query('commit');
      await take;
    } finally {
      mover.release(true);
    }
  });

  test('a stop that was decided about one sandbox stops no later one of its session', async () => {
    await db.renew('http://one', ['a']);
    const { token } = await db.hold('a', 'http://one', {}, 60_000);
    const { sandbox: first } = await db.open('s1', undefined, {}, 'a');
    await db.stop('s1');
    await db.gone(first);
    const { sandbox: second } = await db.open('s1', null, {}, 'a');
    expect(await db.underLease('sandbox_stop', first, token!, { p_reason: 'max_age' })).toEqual([null]);
    expect(await db.session('s1')).toMatchObject({ status: 'starting' });
    await db.underLease('sandbox_stop', second, token!, { p_reason: 'max_age' });
    expect(await db.session('s1')).toMatchObject({ status: 'stopping' });
  });

  test('jobs go to whoever works for the cell of their sandbox, or to anyone where there is none', async () => {
    await db.renew('http://one', ['a', 'b']);
    for (const app of ['a', 'b']) {
      await db.open(`in-${app}`, undefined, {}, app);
      await db.enqueue(`j-${app}`, `in-${app}`);
    }
    const { sandbox } = await db.open('none', undefined, {}, 'b');
    await db.stop('none');
    await db.gone(sandbox);
    await db.enqueue('j-none', 'none');
    const ids = (jobs: { id: string }[]) => jobs.map(({ id }) => id).sort();
    const mine = await db.claim('one', 9, at(0), 1000, ['a']);
    expect(ids(mine)).toEqual(['j-a', 'j-none']);
    for (const job of mine) await db.started(job, at(0));
    // A started one follows its sandbox, too.
    expect(ids(await db.claim('two', 9, at(5000), 1000, ['b']))).toEqual(['j-b', 'j-none']);
    // A controller of before claims all.
    expect(ids(await db.claim('old', 9, at(10_000)))).toEqual(['j-a', 'j-b', 'j-none']);
  });
});

const WAITING = `select count(*)::int as waiting from pg_stat_activity
  where datname = current_database() and wait_event_type = 'Lock'`;
