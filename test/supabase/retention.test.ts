import { afterAll, beforeEach, expect, test } from 'vitest';
import { type Calls, callsOn, SHA } from './calls.ts';
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

const DAY = 86_400_000;
const KEEP = 30 * DAY;
const T0 = Date.UTC(2030, 0, 1);
const at = (days: number) => ({ now: new Date(T0 + days * DAY) });

async function all(table: string, order: string): Promise<Record<string, unknown>[]> {
  return (await database.pool.query(`select * from ${table} order by ${order}`)).rows;
}
/** Everything that is old, in as many batches as it takes. */
async function purgeAll(days: number, limit = 1_000): Promise<number[]> {
  const counts: number[] = [];
  do counts.push(await db.purge(KEEP, limit, at(days)));
  while (counts.at(-1) === limit);
  return counts;
}

/** Opened, used and stopped within one day. */
async function life(id: string, day: number): Promise<void> {
  const { sandbox } = await db.open(id, undefined, at(day));
  await db.created(sandbox, `machine-${sandbox.name}`, at(day));
  await db.ready(sandbox, at(day));
  await db.commit(id, sandbox.fence, (await db.session(id)).head, SHA('a'), at(day));
  const job = `${sandbox.name}-job`;
  await db.enqueue(job, id, undefined, undefined, at(day));
  const [claim] = await db.claim('me', 10, at(day));
  await db.started(claim!, at(day));
  await db.append(claim!, 0, 'what it wrote');
  await db.finish(claim!, 'succeeded', at(day));
  await db.stop(id, 'asked', at(day));
  await db.destroying(sandbox, 'saved', at(day));
  await db.gone(sandbox, null, at(day));
}

test('what has ended long ago goes: events, jobs with their output, sandboxes but the newest; nothing else', async () => {
  await db.renew('http://one', ['cell'], {}, at(0));
  await life('s1', 0);
  await life('s1', 1);
  await life('s1', 40);
  await life('s2', 0);
  const sessions = await all('coding_sessions', 'id');
  const manifests = await all('manifests', 'session_id, version');

  expect(await purgeAll(29)).toEqual([0]);
  const [removed] = await purgeAll(45);
  expect(removed).toBeGreaterThan(20);
  expect(await purgeAll(45)).toEqual([0]);

  expect((await all('sandboxes', 'name')).map(({ name }) => name)).toEqual(['s-s1-3', 's-s2-1']);
  expect((await all('jobs', 'id')).map(({ id }) => id)).toEqual(['s-s1-3-job']);
  expect((await all('job_output', 'job_id')).map(({ job_id }) => job_id)).toEqual(['s-s1-3-job']);
  const days = (await all('session_events', 'id')).map(({ at }) => (Number(at) - T0) / DAY);
  expect(new Set(days)).toEqual(new Set([40]));
  expect(await all('cell_events', 'id')).toEqual([]);
  expect(await all('coding_sessions', 'id')).toEqual(sessions);
  expect(await all('manifests', 'session_id, version')).toEqual(manifests);
  // And the sessions go on as ever.
  const { sandbox } = await db.open('s2', null, at(46));
  expect(sandbox).toMatchObject({ name: 's-s2-2', incarnation: 2 });
});

test('what is alive stays, however old it is, and so do the events that tell of it', async () => {
  const { sandbox } = await db.open('s1', undefined, at(0));
  await db.created(sandbox, 'machine-1', at(0));
  await db.ready(sandbox, at(0));
  await db.enqueue('running', 's1', undefined, undefined, at(0));
  const [claim] = await db.claim('me', 10, at(0));
  await db.started(claim!, at(0));
  await db.append(claim!, 0, 'still writing');
  await db.enqueue('queued', 's1', undefined, undefined, at(0));
  const before = await Promise.all([
    all('sandboxes', 'name'),
    all('jobs', 'id'),
    all('job_output', 'job_id'),
    all('session_events', 'id'),
  ]);
  expect(await purgeAll(400)).toEqual([0]);
  const after = await Promise.all([
    all('sandboxes', 'name'),
    all('jobs', 'id'),
    all('job_output', 'job_id'),
    all('session_events', 'id'),
  ]);
  expect(after).toEqual(before);
});

test('it goes in batches, whatever their size, and by several at once', async () => {
  for (const [n, id] of ['s1', 's2', 's3'].entries()) {
    await life(id, n);
    await life(id, n + 3);
  }
  const counts = await purgeAll(90, 7);
  expect(counts.slice(0, -1).every((count) => count === 7)).toBe(true);
  expect(counts.length).toBeGreaterThan(3);
  expect(await all('jobs', 'id')).toEqual([]);
  expect(await all('sandboxes', 'name')).toHaveLength(3);

  for (const id of ['s4', 's5', 's6']) await life(id, 0);
  await Promise.all([1, 2, 3, 4].map(() => purgeAll(90, 5)));
  await purgeAll(90);
  expect(await all('jobs', 'id')).toEqual([]);
  expect(await all('session_events', 'id')).toEqual([]);
});

test('a row that somebody holds is left, and waited for by nobody', async () => {
  await life('s1', 0);
  const holder = await database.pool.connect();
  await holder.query('begin');
  await holder.query('select from jobs for update');
  await purgeAll(90);
  expect(await all('jobs', 'id')).toHaveLength(1);
  await holder.query('rollback');
  holder.release();
  await purgeAll(90);
  expect(await all('jobs', 'id')).toEqual([]);
});

test('nonsense is refused', async () => {
  await expect(db.purge(1000, 10)).rejects.toMatchObject(refusal('invalid_request'));
  await expect(db.purge(KEEP, 0)).rejects.toMatchObject(refusal('invalid_request'));
});

test('execs go where the table is there: ended long ago, or without an end that anybody will see', async () => {
  const { rows } = await database.pool.query(`select to_regclass('public.session_execs') as table`);
  if (rows[0].table === null) {
    await database.pool.query(`create table public.session_execs (session_id text, id text, incarnation integer,
      command_key text default '', actor text default '', started_at timestamptz, ended_at timestamptz, "end" jsonb)`);
  }
  await life('s1', 0);
  const { sandbox } = await db.open('s1', null, at(1));
  await db.created(sandbox, 'machine-2', at(1));
  await db.ready(sandbox, at(1));
  const add = (id: string, incarnation: number, started: number, ended: number | null) =>
    database.pool.query(
      `insert into session_execs (session_id, id, incarnation, command_key, actor, started_at, ended_at, "end")
       values ('s1', $1, $2, 'k', 'test', $3, $4, $5)`,
      [id, incarnation, at(started).now, ended === null ? null : at(ended).now, ended === null ? null : {}],
    );
  await add('ended', 1, 0, 0);
  await add('lost', 1, 0, null);
  await add('lives', 2, 1, null);
  await add('fresh', 2, 1, 80);
  await purgeAll(90);
  expect((await all('session_execs', 'id')).map(({ id }) => id)).toEqual(['fresh', 'lives']);
});
