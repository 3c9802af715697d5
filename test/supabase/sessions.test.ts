import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Calls, callsOn, SETTINGS, SHA } from './calls.ts';
import { type FreshDatabase, freshDatabase } from './database.ts';
import { refusal } from './rpc.ts';

let database: FreshDatabase;
let db: Calls;
beforeAll(async () => {
  database = await freshDatabase();
  db = callsOn(database.pool);
});
afterAll(() => database.close());

const kinds = async (session: string) => (await db.events(session)).map(({ kind }) => kind);

describe('a session', () => {
  test('lives through open, ready, stop and open again, with one event for each step', async () => {
    const first = await db.open('whole-life');
    expect(first).toMatchObject({
      created: true,
      opened: true,
      session: { status: 'starting', incarnation: 1, head: 0, sandbox_id: null, settings: SETTINGS },
      sandbox: { name: 's-whole-life-1', state: 'planned', app: 'cell', machine_id: null },
    });
    expect(first.sandbox.fence).toBe(first.session.fence);

    await db.created(first.sandbox, 'm1');
    expect(await db.session('whole-life')).toMatchObject({ sandbox_id: 'm1', sandbox_region: 'sjc' });
    await db.ready(first.sandbox);
    expect(await db.session('whole-life')).toMatchObject({ status: 'ready' });
    expect(await db.stop('whole-life')).toMatchObject({
      session: { status: 'stopping', sandbox_id: 'm1' },
      sandbox: { state: 'stopping', reason: 'asked' },
    });
    expect(await db.destroying(first.sandbox, 'saved')).toMatchObject({
      state: 'destroying',
      reason: 'asked',
    });
    expect(await db.gone(first.sandbox)).toMatchObject({ state: 'gone' });
    expect(await db.session('whole-life')).toMatchObject({
      status: 'stopped',
      sandbox_id: null,
      error: null,
    });

    const second = await db.open('whole-life', null);
    expect(second).toMatchObject({ created: false, opened: true, sandbox: { name: 's-whole-life-2' } });
    expect(second.sandbox.fence).toBeGreaterThan(first.sandbox.fence);
    expect(await kinds('whole-life')).toEqual([
      ...['session.created', 'sandbox.created', 'sandbox.ready', 'session.stopping'],
      ...['sandbox.destroying', 'sandbox.gone', 'sandbox.planned'],
    ]);
  });

  test('repeating any step changes nothing and writes no event', async () => {
    const { sandbox } = await db.open('repeats');
    const again = await db.open('repeats');
    expect(again).toMatchObject({ created: false, opened: false, sandbox });
    const steps = [
      () => db.created(sandbox, 'machine-repeats'),
      () => db.ready(sandbox),
      () => db.stop('repeats'),
      () => db.destroying(sandbox),
      () => db.gone(sandbox, { code: 'machine_lost', detail: 'first' }),
    ];
    for (const [place, step] of steps.entries()) {
      const once = await step();
      const state = await db.session('repeats');
      expect(await step()).toEqual(once);
      expect(await db.session('repeats')).toEqual(state);
      expect(await kinds('repeats')).toHaveLength(place + 2);
    }
    // The first outcome stands.
    await db.gone(sandbox, null);
    expect(await db.session('repeats')).toMatchObject({
      status: 'failed',
      error: { code: 'machine_lost', detail: 'first' },
    });
    // Late repeats of earlier steps are answered, not carried out.
    expect(await db.created(sandbox, 'machine-repeats')).toMatchObject({ state: 'gone' });
    expect(await db.destroying(sandbox)).toMatchObject({ state: 'gone' });
    expect(await db.stop('repeats')).toMatchObject({ session: { status: 'failed' }, sandbox: null });
    expect(await kinds('repeats')).toHaveLength(6);
  });

  test('a failed start may be tried again and leaves no error behind', async () => {
    const { sandbox } = await db.open('failed-start');
    await db.gone(sandbox, { code: 'fly_capacity', detail: 'no room in sjc' });
    expect(await db.session('failed-start')).toMatchObject({
      status: 'failed',
      error: { code: 'fly_capacity' },
    });
    expect((await db.open('failed-start')).session).toMatchObject({ status: 'starting', error: null });
  });

  test('an unknown one is not found', async () => {
    await expect(db.open('nobody', null)).rejects.toMatchObject(refusal('session_not_found'));
    await expect(db.stop('nobody')).rejects.toMatchObject(refusal('session_not_found'));
    await expect(db.touch('nobody')).rejects.toMatchObject(refusal('session_not_found'));
    await expect(db.commit('nobody', 1, 0, SHA('a'))).rejects.toMatchObject(refusal('session_not_found'));
  });

  test('other settings for the same id are a conflict', async () => {
    await db.open('settled');
    await expect(db.open('settled', { ...SETTINGS, cpus: 2 })).rejects.toMatchObject(
      refusal('session_conflict'),
    );
    expect(
      await db.open('settled', { memory_mb: 512, cpus: 1, cpu_kind: 'shared', region: 'sjc' }),
    ).toMatchObject({
      opened: false,
    });
  });

  test.each(['', '-a', 'a-', 'A', 'a_b', 'a/b', 'ü', 'a'.repeat(49), "a'; drop table jobs"])(
    'the id %j is refused',
    async (id) => {
      await expect(db.open(id)).rejects.toMatchObject({ code: '23514' });
    },
  );

  test('counts as active at most once a second, without an event', async () => {
    const at = (ms: number) => ({ now: new Date(Date.UTC(2030, 0, 1) + ms) });
    await db.open('touched', SETTINGS, at(0));
    await db.touch('touched', at(999));
    expect((await db.session('touched')).last_active_at).toBe('2030-01-01T00:00:00+00:00');
    await db.touch('touched', at(1000));
    expect((await db.session('touched')).last_active_at).toBe('2030-01-01T00:00:01+00:00');
    expect(await kinds('touched')).toEqual(['session.created']);
  });
});

describe('a sandbox', () => {
  test('that never became ready has nothing to save', async () => {
    await db.open('early-stop');
    expect((await db.stop('early-stop')).sandbox).toMatchObject({ state: 'destroying', reason: 'asked' });
    const { sandbox } = await db.open('early-stop-2');
    await db.created(sandbox, 'm-early');
    expect((await db.stop('early-stop-2')).sandbox).toMatchObject({ state: 'destroying' });
  });

  test('that is on its way out learns its machine late, and keeps its state', async () => {
    const { sandbox } = await db.open('late-answer');
    await db.stop('late-answer');
    expect(await db.created(sandbox, 'm-late')).toMatchObject({ state: 'destroying', machine_id: 'm-late' });
    expect(await db.session('late-answer')).toMatchObject({ status: 'stopping', sandbox_id: null });
    await db.gone(sandbox);
    expect(await kinds('late-answer')).toEqual([
      ...['session.created', 'session.stopping', 'sandbox.created', 'sandbox.gone'],
    ]);
  });

  test('takes one machine only', async () => {
    const { sandbox } = await db.open('two-machines');
    await db.created(sandbox, 'm-one');
    await expect(db.created(sandbox, 'm-two')).rejects.toMatchObject(refusal('fenced'));
    const other = await db.open('gone-first');
    await db.gone(other.sandbox);
    await expect(db.created(other.sandbox, 'm-three')).rejects.toMatchObject(refusal('fenced'));
  });

  test('becomes ready only from created', async () => {
    const { sandbox } = await db.open('order');
    await expect(db.ready(sandbox)).rejects.toMatchObject(refusal('fenced'));
    await db.created(sandbox, 'm-order');
    await db.stop('order');
    await expect(db.ready(sandbox)).rejects.toMatchObject(refusal('fenced'));
  });

  test('obeys only its own fence', async () => {
    const { sandbox } = await db.open('fences');
    for (const fence of [sandbox.fence - 1, sandbox.fence + 1, null as unknown as number]) {
      const other = { name: sandbox.name, fence };
      await expect(db.created(other, 'm')).rejects.toMatchObject(refusal('fenced'));
      await expect(db.ready(other)).rejects.toMatchObject(refusal('fenced'));
      await expect(db.destroying(other)).rejects.toMatchObject(refusal('fenced'));
      await expect(db.gone(other)).rejects.toMatchObject(refusal('fenced'));
    }
    await expect(db.gone({ name: 's-fences-2', fence: sandbox.fence })).rejects.toMatchObject(
      refusal('fenced'),
    );
  });

  test('of an earlier incarnation changes nothing', async () => {
    const old = await db.readySession('outlived');
    await db.gone(old);
    const { session } = await db.open('outlived');
    await expect(db.ready({ name: old.name, fence: session.fence })).rejects.toMatchObject(refusal('fenced'));
    await db.gone(old, { code: 'machine_lost', detail: 'late' });
    await db.destroying(old);
    await expect(db.commit('outlived', old.fence, 0, SHA('a'))).rejects.toMatchObject(refusal('fenced'));
    expect(await db.session('outlived')).toEqual(session);
  });
});

describe('a manifest', () => {
  test('is committed on top of the head', async () => {
    const { fence } = await db.readySession('saves');
    expect(await db.commit('saves', fence, 0, SHA('a'))).toMatchObject({
      version: 1,
      base: 0,
      packs: [{ bytes: 5 }],
    });
    expect(await db.commit('saves', fence, 1, SHA('b'))).toMatchObject({ version: 2, base: 1 });
    expect(await db.session('saves')).toMatchObject({ head: 2 });
  });

  test('committed twice is one version', async () => {
    const { fence } = await db.readySession('saves-twice');
    const once = await db.commit('saves-twice', fence, 0, SHA('a'));
    expect(await db.commit('saves-twice', fence, 0, SHA('a'))).toEqual(once);
    expect((await kinds('saves-twice')).filter((kind) => kind === 'manifest.committed')).toHaveLength(1);
  });

  test('with another base than the head is a conflict', async () => {
    const { fence } = await db.readySession('races');
    await db.commit('races', fence, 0, SHA('a'));
    await expect(db.commit('races', fence, 0, SHA('b'))).rejects.toMatchObject(refusal('save_conflict'));
    await expect(db.commit('races', fence, 2, SHA('b'))).rejects.toMatchObject(refusal('save_conflict'));
  });
});

test('API keys are stored by hash, found by hash, and can be revoked', async () => {
  const { pool } = database;
  const check = async (sha256: string) =>
    (await pool.query('select * from api_key_check($1)', [sha256])).rows;
  await pool.query('select api_key_add($1, $2, $3)', ['k1', 'laptop', SHA('c')]);
  await pool.query('select api_key_add($1, $2, $3)', ['k1', 'laptop', SHA('c')]);
  expect(await check(SHA('c'))).toEqual([{ id: 'k1', name: 'laptop' }]);
  expect(await check(SHA('d'))).toEqual([]);
  await expect(
    pool.query('select api_key_add($1, $2, $3)', ['k1', 'laptop', SHA('d')]),
  ).rejects.toMatchObject(refusal('invalid_request'));
  await pool.query('select api_key_revoke($1)', ['k1']);
  expect(await check(SHA('c'))).toEqual([]);
});
