import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { JobRow, SandboxRow, SessionEventRow } from '../../controller/store/rows.ts';
import { type Calls, callsOn, SETTINGS, SHA } from './calls.ts';
import { type FreshDatabase, freshDatabase } from './database.ts';

let database: FreshDatabase;
let db: Calls;
beforeAll(async () => {
  database = await freshDatabase();
  db = callsOn(database.pool);
});
afterAll(() => database.close());

type Row = Record<string, unknown>;
type State = Record<'session' | 'sandbox' | 'job', Record<string, Row>>;

/** Of each row what its events tell: a touch, a further save that fails, a heartbeat and a job's spec leave none. */
async function state(): Promise<State> {
  const read = async (table: string, key: string, silent: string[]) => {
    const { rows } = await database.pool.query(`select to_jsonb(t) - $1::text[] as row from ${table} t`, [
      silent,
    ]);
    return Object.fromEntries(rows.map(({ row }) => [row[key], row])) as Record<string, Row>;
  };
  return {
    session: await read('coding_sessions', 'id', ['last_active_at', 'save_attempts']),
    sandbox: await read('sandboxes', 'name', []),
    job: await read('jobs', 'id', ['spec', 'lease_until', 'updated_at']),
  };
}

async function events(): Promise<SessionEventRow[]> {
  const { rows } = await database.pool.query('select to_jsonb(e) as row from session_events e order by id');
  return rows.map(({ row }) => row);
}

function replay(log: SessionEventRow[]): State {
  const replayed: State = { session: {}, sandbox: {}, job: {} };
  const merge = (rows: Record<string, Row>, key: string, changes: Row | undefined, silent: string[] = []) => {
    if (changes === undefined) return;
    rows[key] = { ...rows[key], ...changes };
    for (const column of silent) delete rows[key][column];
  };
  for (const { session_id, sandbox, data } of log) {
    merge(replayed.session, session_id, data.session, ['last_active_at', 'save_attempts']);
    if (sandbox !== null) merge(replayed.sandbox, sandbox, data.sandbox);
    merge(replayed.job, String(data.job?.id), data.job, ['lease_until', 'updated_at']);
  }
  return replayed;
}

/** Any call on a few sessions, sandboxes and jobs, with fences and tokens that fit or not. */
const call = fc.record({
  name: fc.constantFrom(
    ...([
      'open',
      'open',
      'reopen',
      'created',
      'created',
      'ready',
      'ready',
      'stop',
      'destroying',
      'gone',
    ] as const),
    ...(['fail', 'touch', 'commit', 'enqueue', 'enqueue', 'claim', 'claim', 'started', 'heartbeat'] as const),
    ...(['release', 'refused', 'finish', 'cancel', 'cancel'] as const),
    ...(['stop', 'sealing', 'discard', 'allow', 'releaseSession', 'unresponsive', 'restarted'] as const),
    ...(['saveFailed', 'saveFailed', 'saveDone'] as const),
  ),
  session: fc.constantFrom('a', 'b'),
  /** Which of the latest: 0 the newest. */
  back: fc.constantFrom(0, 0, 0, 1, 2),
  job: fc.constantFrom('j1', 'j2'),
  skewed: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
  afterMs: fc.constantFrom(0, 1, 1500, 20_000),
});
type Call = typeof call extends fc.Arbitrary<infer T> ? T : never;

async function carryOut({ name, session, back, job, skewed }: Call, now: Date): Promise<unknown> {
  const latest = async (): Promise<SandboxRow> => {
    const { rows } = await database.pool.query(
      'select to_jsonb(b) as row from sandboxes b where session_id = $1 order by incarnation desc offset $2 limit 1',
      [session, back],
    );
    const found: SandboxRow = rows[0]?.row ?? { name: 's-none-1', fence: 1 };
    return skewed ? { ...found, fence: found.fence + 1 } : found;
  };
  const claim = async (): Promise<JobRow> => {
    const found = (await db.job(job)) ?? { id: job, token: 1 };
    return skewed ? { ...found, token: (found.token ?? 0) + 1 } : found;
  };
  switch (name) {
    case 'open':
      return db.open(session, skewed ? { ...SETTINGS, cpus: 2 } : SETTINGS, { now });
    case 'reopen':
      return db.open(session, null, { now });
    case 'created': {
      const sandbox = await latest();
      return db.created(sandbox, `m-${sandbox.name}-${skewed}`, { now });
    }
    case 'ready':
      return db.ready(await latest(), { now });
    case 'stop':
      return db.stop(session, 'asked', { now });
    case 'destroying':
      return db.destroying(await latest(), 'idle', { now });
    case 'gone':
      return db.gone(await latest(), null, { now });
    case 'fail':
      return db.gone(await latest(), { code: 'machine_lost', detail: 'it went' }, { now });
    case 'sealing':
      return db.sealing(await latest(), { now });
    case 'discard':
      return db.discard(
        await latest(),
        skewed ? 0 : 60_000,
        { files: 1, bytes: 2, since_version: 0 },
        { now },
      );
    case 'allow':
      return db.stop(session, 'asked', { now }, true);
    case 'releaseSession':
      return db.releaseSession(await latest(), null, { now });
    case 'unresponsive':
      return db.unresponsive(await latest(), !skewed, { now });
    case 'restarted':
      return db.agentRestarted(await latest(), `boot-${back}`, { now });
    case 'saveFailed':
      return db.saveFailed(await latest(), skewed ? 'storage_full' : 'storage_unavailable', { now });
    case 'saveDone':
      return db.saveDone(await latest(), { now });
    case 'touch':
      return db.touch(session, { now });
    case 'commit': {
      const { head } = (await db.session(session)) ?? { head: 0 };
      return db.commit(session, (await latest()).fence, Math.max(0, head - back), SHA(String(head % 10)), {
        now,
      });
    }
    case 'enqueue':
      return db.enqueue(job, session, { command: skewed ? 'other' : 'true' }, 1 + back, { now });
    case 'claim':
      return db.claim('worker', 1 + back, { now }, 1000);
    case 'started':
      return db.started(await claim(), { now });
    case 'heartbeat':
      return db.heartbeat(await claim(), { now }, 1000);
    case 'release':
      return db.release(await claim(), 1000, { now });
    case 'refused':
      return db.refused(await claim(), { now });
    case 'finish':
      return db.finish(await claim(), skewed ? 'failed' : 'succeeded', { now });
    case 'cancel':
      return db.cancel(job, { now });
  }
}

/** Keys of rows that are not the same in both. */
function changedRows(before: Record<string, Row>, after: Record<string, Row>): string[] {
  return Object.keys(after).filter((key) => JSON.stringify(before[key]) !== JSON.stringify(after[key]));
}

test('whatever is called in whatever order: one event per transition, none without, and replaying them gives the state', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(call, { maxLength: 60, size: 'max' }), async (calls) => {
      await database.pool.query(
        'truncate coding_sessions, sandboxes, manifests, jobs, job_output, session_events, session_execs',
      );
      let clock = Date.UTC(2030, 0, 1);
      let before = await state();
      let seen = 0;
      for (const one of calls) {
        clock += one.afterMs;
        await carryOut(one, new Date(clock)).catch((error) => {
          // Refusals are answers of the contract; anything else is a bug.
          if (!/^PT4/.test(error.code)) throw error;
        });
        const after = await state();
        const log = await events();
        const fresh = log.slice(seen);
        const jobs = changedRows(before.job, after.job);
        const others = [
          ...changedRows(before.session, after.session),
          ...changedRows(before.sandbox, after.sandbox),
        ];
        if (one.name === 'claim') {
          // One claim may take several jobs, and return one to the queue before taking it.
          expect(new Set(fresh.map(({ data }) => data.job?.id))).toEqual(new Set(jobs));
        } else {
          // A version that is committed while saves were failing says both.
          const told = fresh.filter(({ kind }) => one.name !== 'commit' || kind !== 'save.recovered');
          expect(told, one.name).toHaveLength(jobs.length + others.length > 0 ? 1 : 0);
        }
        for (const event of fresh) expect(Date.parse(event.at)).toBe(clock);
        expect(replay(log)).toEqual(after);
        seen = log.length;
        before = after;
      }
    }),
    { numRuns: 25 },
  );
});
