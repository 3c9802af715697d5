import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Calls, callsOn } from './calls.ts';
import { type FreshDatabase, freshDatabase } from './database.ts';
import { only, type Rpc, refusal, rpcOn } from './rpc.ts';

let database: FreshDatabase;
let db: Calls;
let rpc: Rpc;
beforeAll(async () => {
  database = await freshDatabase();
  db = callsOn(database.pool);
  rpc = rpcOn(database.pool);
});
afterAll(() => database.close());

const register: Calls['register'] = (...args) => db.register(...args);
const withdraw = (session: string, id: string, incarnation = 1) =>
  only(rpc<boolean>('exec_withdraw', { p_session: session, p_id: id, p_incarnation: incarnation }));
const ended = (session: string, ends: object[]) =>
  only(rpc<number>('execs_ended', { p_session: session, p_ends: ends }));
const END = {
  type: 'end',
  result: { kind: 'exited', code: 3 },
  stdout_bytes: 1,
  stderr_bytes: 2,
  duration_ms: 3,
};

async function reopen(session: string) {
  const { sandbox } = await db.stop(session);
  await db.destroying(sandbox!);
  await db.gone(sandbox!);
  const again = await db.open(session, null);
  await db.created(again.sandbox, `machine-${again.sandbox.name}`);
  return db.ready(again.sandbox);
}

describe('an exec id', () => {
  test('is registered once in the life of its session, whatever sandbox it is at', async () => {
    await db.readySession('once');
    const first = await register('once', 'e', 1, 'this');
    expect(first).toMatchObject({
      created: true,
      exec: { session_id: 'once', id: 'e', incarnation: 1, command_key: 'this', asked: 1, end: null },
    });
    expect(await register('once', 'e', 1, 'this')).toMatchObject({ created: false, exec: { asked: 2 } });
    await reopen('once');
    expect(await register('once', 'e', 2, 'other')).toMatchObject({
      created: false,
      exec: { incarnation: 1, command_key: 'this' },
    });
    await db.readySession('once-more');
    expect(await register('once-more', 'e')).toMatchObject({ created: true });
  });

  test('that is new is refused where the session takes no work; one that is known is found', async () => {
    await db.readySession('closed');
    await register('closed', 'known');
    await expect(register('closed', 'new', 2)).rejects.toMatchObject(refusal('fenced'));
    const { sandbox } = await db.stop('closed');
    await expect(register('closed', 'new')).rejects.toMatchObject(refusal('session_stopping'));
    expect(await register('closed', 'known')).toMatchObject({ created: false });
    await db.destroying(sandbox!);
    await db.gone(sandbox!);
    await expect(register('closed', 'new')).rejects.toMatchObject(refusal('session_not_open'));
    expect(await register('closed', 'known')).toMatchObject({ created: false });
    await expect(register('nobody', 'new')).rejects.toMatchObject(refusal('session_not_found'));
  });

  test('is registered once by many at the same moment', async () => {
    await db.readySession('crowd');
    const all = await Promise.all(Array.from({ length: 12 }, () => register('crowd', 'e')));
    expect(all.filter(({ created }) => created)).toHaveLength(1);
    expect((await register('crowd', 'e')).exec.asked).toBe(13);
  });

  test('is taken back only as long as nobody else has asked for it', async () => {
    await db.readySession('back');
    await register('back', 'e');
    expect(await withdraw('back', 'e')).toBe(true);
    expect(await withdraw('back', 'e')).toBe(false);
    expect(await register('back', 'e', 1, 'another')).toMatchObject({ created: true });
    await register('back', 'e');
    expect(await withdraw('back', 'e')).toBe(false);
    await register('back', 'ended');
    await ended('back', [{ id: 'ended', end: END }]);
    expect(await withdraw('back', 'ended')).toBe(false);
  });
});

test('several are registered in one call, each with an answer of its own, in their order', async () => {
  await db.readySession('many');
  const one = (session: string, id: string) => ({ session, id, incarnation: 1, key: 'k', actor: 'test' });
  const answers = await only(
    rpc<unknown[]>('execs_register', {
      p_execs: [one('many', 'z'), one('nobody', 'a'), one('many', 'a'), one('many', 'z')],
    }),
  );
  expect(answers).toMatchObject([
    { created: true, exec: { id: 'z' } },
    { code: 'session_not_found' },
    { created: true, exec: { id: 'a' } },
    { created: false, exec: { id: 'z', asked: 2 } },
  ]);
  expect(await only(rpc('execs_register', { p_execs: [] }))).toEqual([]);
});

test('an end is written down once; what is not known is passed over', async () => {
  await db.readySession('ends');
  await register('ends', 'a');
  await register('ends', 'b');
  const other = { ...END, result: { kind: 'unknown', reason: 'x' } };
  expect(
    await ended('ends', [
      { id: 'a', end: END },
      { id: 'job-1', end: END },
    ]),
  ).toBe(1);
  expect(
    await ended('ends', [
      { id: 'a', end: other },
      { id: 'b', end: other },
      { id: 'b', end: END },
    ]),
  ).toBe(1);
  expect((await register('ends', 'a')).exec).toMatchObject({ end: END, ended_at: expect.any(String) });
  expect((await register('ends', 'b')).exec.end).not.toBeNull();
  expect(await ended('ends', [])).toBe(0);
});
