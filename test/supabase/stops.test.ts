import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Calls, callsOn, SHA } from './calls.ts';
import { type FreshDatabase, freshDatabase } from './database.ts';
import { refusal } from './rpc.ts';

let database: FreshDatabase;
let db: Calls;
beforeAll(async () => {
  database = await freshDatabase();
  db = callsOn(database.pool);
});
afterAll(() => database.close());

const T0 = Date.UTC(2030, 0, 1);
const at = (ms: number) => ({ now: new Date(T0 + ms) });
const HOUR = 3_600_000;
const last = async (session: string) => (await db.events(session)).at(-1)!;

describe('a stop', () => {
  test('is cancelled by an open until it is sealed', async () => {
    const sandbox = await db.readySession('cancelled');
    await db.stop('cancelled', 'asked');
    expect(await db.open('cancelled')).toMatchObject({
      canceled: true,
      opened: false,
      session: { status: 'ready', incarnation: 1 },
      sandbox: { name: sandbox.name, state: 'ready', reason: null, stopping_at: null },
    });
    expect(await last('cancelled')).toMatchObject({ kind: 'session.stop_canceled' });
    // What goes on with the stop all the same is refused.
    await expect(db.sealing(sandbox)).rejects.toMatchObject(refusal('fenced'));
  });

  test('is not cancelled once its agent may have been sealed', async () => {
    const sandbox = await db.readySession('sealed');
    await db.stop('sealed');
    const sealing = await db.sealing(sandbox);
    expect(sealing.sealing_at).not.toBeNull();
    expect(await db.sealing(sandbox)).toEqual(sealing);
    await expect(db.open('sealed', null)).rejects.toMatchObject(refusal('session_stopping'));
  });

  test('for age is not cancelled: the sandbox would be stopped again at once', async () => {
    await db.readySession('aged');
    await db.stop('aged', 'max_age');
    await expect(db.open('aged', null)).rejects.toMatchObject(refusal('session_stopping'));
  });

  test('gives its session a new sandbox as soon as the old one is only being destroyed', async () => {
    const old = await db.readySession('renewed');
    await db.stop('renewed');
    await db.sealing(old);
    await db.destroying(old);
    const { sandbox, opened } = await db.open('renewed', null);
    expect(opened).toBe(true);
    expect(sandbox).toMatchObject({ incarnation: 2, state: 'planned' });
    await expect(db.commit('renewed', old.fence, 0, SHA('1'))).rejects.toMatchObject(refusal('fenced'));
    await db.created(sandbox, 'new-machine');
    await db.ready(sandbox);
    // The late end of the old machine says nothing of the session.
    await db.gone(old);
    expect(await db.session('renewed')).toMatchObject({
      status: 'ready',
      incarnation: 2,
      sandbox_id: 'new-machine',
    });
  });

  test('ends for the session when Fly does not end the machine', async () => {
    const sandbox = await db.readySession('stuck');
    await db.stop('stuck');
    await db.releaseSession(sandbox);
    expect(await db.session('stuck'), 'not before it is saved').toMatchObject({ status: 'stopping' });
    await db.destroying(sandbox);
    await db.releaseSession(sandbox);
    expect(await db.session('stuck')).toMatchObject({ status: 'stopped', sandbox_id: null });
    expect(await last('stuck')).toMatchObject({ kind: 'session.released' });
    await db.gone(sandbox, { code: 'machine_lost', detail: 'much later' });
    expect(await db.session('stuck')).toMatchObject({ status: 'stopped', error: null });
  });
});

describe('what is not saved', () => {
  test('is given up when a caller has allowed it, with what is lost in the event', async () => {
    const sandbox = await db.readySession('allowed');
    await db.stop('allowed');
    await expect(db.discard(sandbox, HOUR)).rejects.toMatchObject(refusal('save_failed'));
    await db.stop('allowed', 'given up', undefined, true);
    expect(await last('allowed')).toMatchObject({ kind: 'session.discard_allowed' });
    const lost = { files: 3, bytes: 20, since_version: 0 };
    expect(await db.discard(sandbox, HOUR, lost)).toMatchObject({ state: 'destroying' });
    expect(await last('allowed')).toMatchObject({ kind: 'sandbox.discarded', data: { lost } });
    expect(await db.discard(sandbox, HOUR), 'repeated').toMatchObject({ state: 'destroying' });
  });

  test('is given up when its time is over, by the clock of the database', async () => {
    const sandbox = await db.readySession('overdue');
    await db.stop('overdue', 'asked', at(0));
    await expect(db.discard(sandbox, HOUR, null, at(HOUR - 1))).rejects.toMatchObject(refusal('save_failed'));
    expect(await db.discard(sandbox, HOUR, null, at(HOUR))).toMatchObject({ state: 'destroying' });
  });

  test('of a sandbox that nobody stops is never given up', async () => {
    const sandbox = await db.readySession('in-use');
    await expect(db.discard(sandbox, 0)).rejects.toMatchObject(refusal('save_failed'));
  });
});

describe('saves that fail', () => {
  test('are told once for each reason, counted, and told again when one succeeds', async () => {
    const sandbox = await db.readySession('failing');
    await db.saveFailed(sandbox, 'storage_unavailable', at(0));
    await db.saveFailed(sandbox, 'storage_unavailable', at(1000));
    expect(await db.saveFailed(sandbox, 'storage_full', at(2000))).toMatchObject({
      save_attempts: 3,
      save: {
        state: 'failing',
        since: '2030-01-01T00:00:00+00:00',
        code: 'storage_full',
        detail: 'it was storage_full',
      },
    });
    await db.commit('failing', sandbox.fence, 0, SHA('1'));
    await db.saveDone(sandbox);
    expect(await db.session('failing')).toMatchObject({
      save: { state: 'ok', since: null },
      save_attempts: 0,
    });
    const told = (await db.events('failing'))
      .map(({ kind }) => kind)
      .filter((kind) => kind.startsWith('save.'));
    expect(told).toEqual(['save.failing', 'save.failing', 'save.recovered']);
  });

  test('of a sandbox that is gone, or of another fence, are refused', async () => {
    const sandbox = await db.readySession('gone-by');
    await expect(
      db.saveFailed({ ...sandbox, fence: sandbox.fence + 1 }, 'save_failed'),
    ).rejects.toMatchObject(refusal('fenced'));
    await db.destroying(sandbox);
    await expect(db.saveFailed(sandbox, 'save_failed')).rejects.toMatchObject(refusal('fenced'));
  });

  test('are forgotten with the next sandbox', async () => {
    const sandbox = await db.readySession('anew');
    await db.saveFailed(sandbox, 'save_failed');
    await db.destroying(sandbox);
    expect((await db.open('anew', null)).session).toMatchObject({ save: { state: 'ok' }, save_attempts: 0 });
  });
});

test('an agent that answers no more makes its session unresponsive, until it answers', async () => {
  const sandbox = await db.readySession('silent');
  await db.unresponsive(sandbox, true);
  await db.unresponsive(sandbox, true);
  expect(await db.session('silent')).toMatchObject({ status: 'unresponsive' });
  expect(await db.open('silent')).toMatchObject({ opened: false, session: { status: 'unresponsive' } });
  await db.stop('silent');
  expect(await db.open('silent'), 'cancelled').toMatchObject({ session: { status: 'unresponsive' } });
  await db.unresponsive(sandbox, false);
  expect(await db.session('silent')).toMatchObject({ status: 'ready' });
  expect((await db.events('silent')).filter(({ kind }) => kind === 'sandbox.unresponsive')).toHaveLength(1);
});

test('a restart of the agent is told once', async () => {
  const sandbox = await db.readySession('restarted');
  await db.agentRestarted(sandbox, 'boot-2');
  await db.agentRestarted(sandbox, 'boot-2');
  await db.agentRestarted(sandbox, 'boot-3');
  const told = (await db.events('restarted')).filter(({ kind }) => kind === 'sandbox.agent_restarted');
  expect(told.map(({ reason }) => reason)).toEqual(['out_of_memory', 'out_of_memory']);
});

describe('an open', () => {
  test('may ask for a version that the session has', async () => {
    const sandbox = await db.readySession('versions');
    await db.commit('versions', sandbox.fence, 0, SHA('1'));
    await db.commit('versions', sandbox.fence, 1, SHA('2'));
    await db.destroying(sandbox);
    await db.gone(sandbox);
    await expect(db.openAt('versions', { version: 3 })).rejects.toMatchObject(refusal('version_not_found'));
    const { sandbox: next } = await db.openAt('versions', { version: 1 });
    expect(next).toMatchObject({ restore_version: 1 });
  });

  test('is refused when the session was started too often within an hour, and says when to come back', async () => {
    const cycle = async (ms: number) => {
      const { sandbox } = await db.open('restless', undefined, at(ms));
      await db.destroying(sandbox, 'asked', at(ms));
      await db.gone(sandbox, null, at(ms));
    };
    await cycle(0);
    await cycle(60_000);
    await expect(db.openAt('restless', { startsPerHour: 2 }, at(120_000))).rejects.toMatchObject({
      code: 'PT429',
      detail: 'too_many_starts',
      hint: String(HOUR - 120_000),
    });
    expect(await db.openAt('restless', { startsPerHour: 2 }, at(HOUR + 1))).toMatchObject({ opened: true });
  });
});

describe('jobs of a session that is being stopped', () => {
  test('are not claimed until it is stopped', async () => {
    const sandbox = await db.readySession('busy');
    await db.enqueue('waits', 'busy', { command: 'true' });
    await db.stop('busy');
    expect(await db.claim('w1')).toEqual([]);
    await db.destroying(sandbox);
    await db.gone(sandbox);
    expect(await db.claim('w1')).toMatchObject([{ id: 'waits', attempts: 1 }]);
  });

  test('go back to the queue when the sandbox refuses to start them, and the try does not count', async () => {
    await db.readySession('refusing');
    await db.enqueue('refused', 'refusing', { command: 'true' }, 1);
    const [job] = await db.claim('w1');
    await db.started(job!);
    expect(await db.refused(job!)).toMatchObject({ status: 'queued', attempts: 0, started: false });
    const [again] = await db.claim('w2');
    expect(again).toMatchObject({ id: 'refused', attempts: 1 });
    await expect(db.refused(job!)).rejects.toMatchObject(refusal('fenced'));
    await db.cancel('refused');
    expect(await db.refused(again!)).toMatchObject({ status: 'canceled' });
  });
});
