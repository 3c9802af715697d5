import { afterAll, beforeAll, expect, test } from 'vitest';
import type { JobRow, SandboxRow } from '../../controller/store/rows.ts';
import { type Calls, callsOn, SHA } from './calls.ts';
import { type FreshDatabase, freshDatabase } from './database.ts';

let database: FreshDatabase;
let db: Calls;
beforeAll(async () => {
  database = await freshDatabase();
  db = callsOn(database.pool);
});
afterAll(() => database.close());

/** Runs the same work so many times, each on a connection of its own. */
const together = <T>(times: number, work: (place: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: times }, (_, place) => work(place)));

test('many opens of one session at once make one incarnation, first and later', async () => {
  for (let incarnation = 1; incarnation <= 10; incarnation += 1) {
    const answers = await together(12, () => db.open('crowd'));
    expect(answers.filter(({ opened }) => opened)).toHaveLength(1);
    expect(answers.filter(({ created }) => created)).toHaveLength(incarnation === 1 ? 1 : 0);
    for (const { sandbox } of answers) expect(sandbox).toEqual(answers[0]!.sandbox);
    expect(answers[0]!.sandbox).toMatchObject({ incarnation, state: 'planned' });
    const gone = await together(4, () => db.gone(answers[0]!.sandbox));
    for (const sandbox of gone) expect(sandbox).toEqual(gone[0]);
  }
  expect(await db.events('crowd')).toHaveLength(20);
});

test('of many commits on one base one wins', async () => {
  const { fence } = await db.readySession('savers');
  const outcomes = await Promise.allSettled(
    Array.from({ length: 10 }, (_, place) => db.commit('savers', fence, 0, SHA(String(place)))),
  );
  const lost = outcomes.filter(({ status }) => status === 'rejected') as PromiseRejectedResult[];
  expect(lost).toHaveLength(9);
  for (const { reason } of lost) expect(reason).toMatchObject({ detail: 'save_conflict' });
});

test('racing callers never make two live sandboxes, and none dies in a deadlock', async () => {
  const refusals = new Set<string>();
  await together(8, async (worker) => {
    let sandbox: SandboxRow | undefined;
    for (let round = 0; round < 40; round += 1) {
      const known = sandbox;
      const steps = [
        async () => {
          sandbox = (await db.open('raced')).sandbox;
        },
        () => known && db.created(known, `m-${known.name}`),
        () => known && db.ready(known),
        () => db.stop('raced'),
        () => known && db.destroying(known),
        () => known && db.gone(known),
        () => db.touch('raced'),
      ];
      try {
        await steps[(round * (worker + 1) + worker) % steps.length]!();
      } catch (error) {
        refusals.add((error as { detail?: string }).detail ?? String(error));
      }
    }
  });
  const known = ['fenced', 'session_stopping', 'session_not_found'];
  expect([...refusals].filter((refusal) => !known.includes(refusal))).toEqual([]);
  const { rows } = await database.pool.query<SandboxRow>(
    `select * from sandboxes where session_id = 'raced' order by incarnation`,
  );
  expect(rows.length).toBeGreaterThan(1);
  const older = rows.slice(0, -1).map(({ state }) => state);
  expect(older.every((state) => state === 'gone' || state === 'destroying')).toBe(true);
  const fences = rows.map(({ fence }) => Number(fence));
  expect(fences).toEqual(fences.toSorted((a, b) => a - b));
});

test('the database itself refuses a second live sandbox and a second running job', async () => {
  await db.open('sole');
  await expect(
    database.pool.query(`
      insert into sandboxes (name, session_id, incarnation, fence, app, state, created_at, updated_at)
      values ('s-sole-2', 'sole', 2, 0, 'cell', 'planned', now(), now())`),
  ).rejects.toMatchObject({ constraint: 'sandboxes_one_live' });
  await expect(
    database.pool.query(`
      insert into jobs (id, session_id, spec, status, max_attempts, lease_until, run_at, created_at, updated_at)
      select id, 'sole', '{}', 'running', 1, now(), now(), now(), now() from unnest(array['one', 'two']) id`),
  ).rejects.toMatchObject({ constraint: 'jobs_one_running' });
});

test('1,000 jobs of 50 sessions, queued and claimed at the same time by 8 workers: one at a time, in order, each once', async () => {
  const sessions = Array.from({ length: 50 }, (_, place) => `busy-${place}`);
  for (const session of sessions) await db.open(session);
  let queued = 0;
  const enqueuing = together(4, async (writer) => {
    for (let n = 0; n < 250; n += 1) {
      await db.enqueue(`job-${writer}-${n}`, sessions[(n * 7 + writer) % sessions.length]!);
      queued += 1;
    }
  });
  const finished: string[] = [];
  await together(8, async (worker) => {
    while (finished.length < 1000) {
      const jobs: JobRow[] = await db.claim(`w${worker}`, 5);
      for (const job of jobs) {
        if (worker % 2 === 0) await db.started(job);
        await db.finish(job);
        finished.push(job.id);
      }
    }
  });
  await enqueuing;

  expect(queued).toBe(1000);
  expect(new Set(finished).size).toBe(1000);
  const { rows: wrong } = await database.pool.query(
    `select * from jobs where id like 'job-%' and (status <> 'succeeded' or attempts <> 1)`,
  );
  expect(wrong).toEqual([]);
  for (const session of sessions) {
    const { rows } = await database.pool.query<{ step: string; id: string }>(
      `select replace(e.kind, 'job.', '') as step, e.data #>> '{job,id}' as id
       from session_events e where session_id = $1 and kind in ('job.claimed', 'job.finished') order by e.id`,
      [session],
    );
    const { rows: order } = await database.pool.query<{ id: string }>(
      'select id from jobs where session_id = $1 order by seq',
      [session],
    );
    expect(rows).toEqual(
      order.flatMap(({ id }) => [
        { step: 'claimed', id },
        { step: 'finished', id },
      ]),
    );
  }
});

test('many claims of expired leases at once hand each job to one worker', async () => {
  const at = (ms: number) => ({ now: new Date(Date.UTC(2030, 0, 1) + ms) });
  for (let n = 0; n < 40; n += 1) {
    await db.open(`lease-${n}`);
    await db.enqueue(`lease-job-${n}`, `lease-${n}`, undefined, 3, at(0));
  }
  for (const [place, job] of (await db.claim('dead', 40, at(0), 1000)).entries()) {
    if (place % 2 === 0) await db.started(job);
  }
  const claims = (await together(10, (worker) => db.claim(`w${worker}`, 10, at(5000)))).flat();
  const rest = await db.claim('last', 40, at(5000));
  const ids = [...claims, ...rest].map(({ id }) => id);
  expect(ids.toSorted()).toEqual(Array.from({ length: 40 }, (_, n) => `lease-job-${n}`).toSorted());
  expect([...claims, ...rest].map(({ attempts, started }) => attempts - (started ? 0 : 1))).toEqual(
    Array(40).fill(1),
  );
});
