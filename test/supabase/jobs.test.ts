import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { type Calls, callsOn } from './calls.ts';
import { type FreshDatabase, freshDatabase } from './database.ts';
import { refusal } from './rpc.ts';

let database: FreshDatabase;
let db: Calls;
const opened: FreshDatabase[] = [];
// Claims see all jobs, so each test has its own database.
beforeEach(async () => {
  database = await freshDatabase();
  opened.push(database);
  db = callsOn(database.pool);
  await db.open('s1');
});
afterAll(() => Promise.all(opened.map((one) => one.close())));

const at = (ms: number) => ({ now: new Date(Date.UTC(2030, 0, 1) + ms) });
const jobKinds = async () =>
  (await db.events('s1')).map(({ kind }) => kind).filter((kind) => kind.startsWith('job'));

describe('a queued job', () => {
  test('is claimed, started, finished, with one event for each step and its spec in none', async () => {
    const spec = { command: ['npm', 'test'], env: { TOKEN: 'shh' } };
    expect(await db.enqueue('j1', 's1', spec)).toMatchObject({
      created: true,
      job: { status: 'queued', attempts: 0, token: null, spec },
    });
    const [job] = await db.claim('w1');
    expect(job).toMatchObject({ id: 'j1', status: 'running', attempts: 1, owner: 'w1', started: false });
    expect(await db.started(job!)).toMatchObject({ started: true });
    expect(await db.finish(job!)).toMatchObject({
      ...{ status: 'succeeded', lease_until: null },
      result: { result: { kind: 'exited', code: 0 } },
    });
    expect((await db.job('j1')).ended_at).not.toBeNull();
    expect(await jobKinds()).toEqual(['job.queued', 'job.claimed', 'job.started', 'job.finished']);
    expect(JSON.stringify(await db.events('s1'))).not.toContain('shh');
  });

  test('is the same job when it is sent again, and a conflict with other contents', async () => {
    const { job } = await db.enqueue('j1', 's1');
    expect(await db.enqueue('j1', 's1')).toEqual({ job, created: false });
    await db.open('s2');
    await expect(db.enqueue('j1', 's1', { command: 'false' })).rejects.toMatchObject(refusal('job_conflict'));
    await expect(db.enqueue('j1', 's2')).rejects.toMatchObject(refusal('job_conflict'));
    await expect(db.enqueue('j2', 'nobody')).rejects.toMatchObject(refusal('session_not_found'));
    expect(await jobKinds()).toEqual(['job.queued']);
  });

  test('can be cancelled, once', async () => {
    await db.enqueue('j1', 's1');
    const canceled = await db.cancel('j1');
    expect(canceled).toMatchObject({ status: 'canceled', result: null });
    expect(await db.cancel('j1')).toEqual(canceled);
    expect(await db.claim('w1')).toEqual([]);
    await expect(db.cancel('nothing')).rejects.toMatchObject(refusal('job_not_found'));
    expect(await jobKinds()).toEqual(['job.queued', 'job.finished']);
  });
});

describe('claiming', () => {
  test('gives the oldest job of each session, up to the number asked for', async () => {
    await db.open('s2');
    await db.open('s3');
    for (const id of ['a', 'b', 'c']) {
      for (const session of ['s1', 's2', 's3']) await db.enqueue(`${session}${id}`, session);
    }
    expect((await db.claim('w1', 2)).map(({ id }) => id)).toEqual(['s1a', 's2a']);
    expect((await db.claim('w2', 9)).map(({ id }) => id)).toEqual(['s3a']);
    expect(await db.claim('w3', 9)).toEqual([]);
    expect(await db.claim('w3', 0)).toEqual([]);
  });

  test('does not let a later job pass one that waits for its next attempt', async () => {
    await db.enqueue('first', 's1', undefined, 3, at(0));
    await db.enqueue('second', 's1', undefined, 3, at(0));
    const [first] = await db.claim('w1', 1, at(0));
    expect(await db.release(first!, 5000, at(0))).toMatchObject({ status: 'queued', owner: null });
    expect(await db.claim('w1', 9, at(4999))).toEqual([]);
    expect((await db.claim('w1', 9, at(5000))).map(({ id }) => id)).toEqual(['first']);
  });
});

describe('a claim', () => {
  test('is needed for every write', async () => {
    await db.enqueue('j1', 's1');
    const [job] = await db.claim('w1');
    const stranger = { id: 'j1', token: job!.token! - 1 };
    await expect(db.started(stranger)).rejects.toMatchObject(refusal('fenced'));
    await expect(db.heartbeat(stranger)).rejects.toMatchObject(refusal('fenced'));
    await expect(db.append(stranger, 0, 'x')).rejects.toMatchObject(refusal('fenced'));
    await expect(db.release(stranger)).rejects.toMatchObject(refusal('fenced'));
    await expect(db.finish(stranger)).rejects.toMatchObject(refusal('fenced'));
    await expect(db.finish({ id: 'j1', token: null })).rejects.toMatchObject(refusal('fenced'));
    await expect(db.finish({ id: 'nothing', token: 1 })).rejects.toMatchObject(refusal('job_not_found'));
    await expect(db.finish(job!, 'queued')).rejects.toMatchObject(refusal('invalid_request'));
  });

  test('can repeat its steps without effect', async () => {
    await db.enqueue('j1', 's1');
    const [job] = await db.claim('w1');
    await db.started(job!);
    await db.started(job!);
    const finished = await db.finish(job!);
    expect(await db.finish(job!)).toEqual(finished);
    await expect(db.finish(job!, 'failed')).rejects.toMatchObject(refusal('fenced'));
    await expect(db.heartbeat(job!)).rejects.toMatchObject(refusal('fenced'));
    expect(await jobKinds()).toEqual(['job.queued', 'job.claimed', 'job.started', 'job.finished']);
  });

  test('learns by its heartbeat that the job is to be cancelled', async () => {
    await db.enqueue('j1', 's1', undefined, 3, at(0));
    const [job] = await db.claim('w1', 1, at(0), 1000);
    expect(await db.heartbeat(job!, at(900), 1000)).toMatchObject({
      ...{ cancel_requested: false, lease_until: '2030-01-01T00:00:01.9+00:00' },
    });
    expect(await db.cancel('j1')).toMatchObject({ status: 'running', cancel_requested: true });
    await db.cancel('j1');
    expect(await db.heartbeat(job!, at(1000))).toMatchObject({ cancel_requested: true });
    expect(await db.finish(job!, 'canceled')).toMatchObject({ status: 'canceled' });
    expect(await jobKinds()).toEqual(['job.queued', 'job.claimed', 'job.cancel_requested', 'job.finished']);
  });

  test('can be given back until the job has started', async () => {
    await db.enqueue('j1', 's1', undefined, 2);
    const [first] = await db.claim('w1');
    const released = await db.release(first!);
    expect(await db.release(first!)).toEqual(released);
    const [second] = await db.claim('w1');
    await expect(db.release(first!)).rejects.toMatchObject(refusal('fenced'));
    expect(await db.release(second!)).toMatchObject({
      ...{ status: 'failed', attempts: 2 },
      result: { result: { kind: 'unknown', reason: expect.stringContaining('2 attempts') } },
    });
    await db.enqueue('j2', 's1');
    const [third] = await db.claim('w1');
    await db.started(third!);
    await expect(db.release(third!)).rejects.toMatchObject(refusal('job_conflict'));
  });

  test('that is given back after a cancel ends the job', async () => {
    await db.enqueue('j1', 's1');
    const [job] = await db.claim('w1');
    await db.cancel('j1');
    expect(await db.release(job!)).toMatchObject({ status: 'canceled' });
    expect(await db.claim('w1')).toEqual([]);
  });
});

describe('an expired lease', () => {
  test('of a job that did not start means another attempt, as long as there is one', async () => {
    await db.enqueue('j1', 's1', undefined, 2, at(0));
    const [first] = await db.claim('w1', 1, at(0), 1000);
    expect(await db.claim('w2', 1, at(1000), 1000)).toEqual([]);
    const [second] = await db.claim('w2', 1, at(1001), 1000);
    expect(second).toMatchObject({ id: 'j1', owner: 'w2', attempts: 2 });
    expect(second!.token).toBeGreaterThan(first!.token!);
    await expect(db.started(first!)).rejects.toMatchObject(refusal('fenced'));
    expect(await db.claim('w3', 1, at(3000))).toEqual([]);
    expect(await db.job('j1')).toMatchObject({ status: 'failed', result: { result: { kind: 'unknown' } } });
    expect(await jobKinds()).toEqual([
      ...['job.queued', 'job.claimed', 'job.released', 'job.claimed', 'job.finished'],
    ]);
  });

  test('of a started job hands it over as it is, and it is never run again', async () => {
    await db.enqueue('j1', 's1', undefined, 1, at(0));
    const [first] = await db.claim('w1', 1, at(0), 1000);
    await db.started(first!);
    await db.append(first!, 0, 'half');
    const [second] = await db.claim('w2', 1, at(2000), 1000);
    expect(second).toMatchObject({ id: 'j1', owner: 'w2', attempts: 1, started: true, status: 'running' });
    await expect(db.append(first!, 4, 'late')).rejects.toMatchObject(refusal('fenced'));
    await expect(db.finish(first!)).rejects.toMatchObject(refusal('fenced'));
    await db.append(second!, 4, ' done');
    expect(await db.finish(second!)).toMatchObject({ status: 'succeeded' });
  });

  test('of a cancelled job that did not start ends it', async () => {
    await db.enqueue('j1', 's1', undefined, 3, at(0));
    await db.claim('w1', 1, at(0), 1000);
    await db.cancel('j1', at(500));
    expect(await db.claim('w2', 1, at(2000))).toEqual([]);
    expect(await db.job('j1')).toMatchObject({ status: 'canceled' });
  });

  test('counts towards the number asked for', async () => {
    await db.open('s2');
    await db.enqueue('j1', 's1', undefined, 3, at(0));
    await db.enqueue('j2', 's2', undefined, 3, at(0));
    for (const job of await db.claim('w1', 1, at(0), 1000)) await db.started(job);
    expect((await db.claim('w2', 1, at(2000))).map(({ id }) => id)).toEqual(['j1']);
    expect((await db.claim('w2', 1, at(2000))).map(({ id }) => id)).toEqual(['j2']);
  });
});

describe('output', () => {
  const LIMIT = 4 * 1024 * 1024;

  async function kept(stream: 'stdout' | 'stderr'): Promise<Buffer> {
    const { rows } = await database.pool.query(
      'select * from job_output where job_id = $1 and stream = $2 order by seq',
      ['j1', stream],
    );
    let end = 0;
    const chunks = rows.map(({ byte_offset, data, encoding }) => {
      expect(Number(byte_offset)).toBe(end);
      const bytes = Buffer.from(data, encoding);
      end += bytes.length;
      return bytes;
    });
    return Buffer.concat(chunks);
  }

  async function runningJob() {
    await db.enqueue('j1', 's1');
    const [job] = await db.claim('w1');
    return job!;
  }

  test('is kept by byte offset; what is sent again is dropped, wherever it is cut', async () => {
    const job = await runningJob();
    const text = Buffer.from('grüße ✓ und so weiter\n');
    await db.append(job, 0, 'grüße');
    await db.append(job, 0, 'grüße');
    await db.append(job, 3, Buffer.from('ü').subarray(1).toString('base64'), 'base64');
    await db.append(job, 0, text.subarray(0, 10).toString('base64'), 'base64');
    // Begins within a character that is there in part.
    await db.append(job, 0, text.toString());
    await db.append(job, text.length, Buffer.from([0, 255, 1]).toString('base64'), 'base64');
    await db.append(job, text.length + 3, 'end');
    await db.append(job, 0, 'other', 'utf8', 'stderr');
    expect(await kept('stdout')).toEqual(Buffer.concat([text, Buffer.from([0, 255, 1]), Buffer.from('end')]));
    expect((await kept('stderr')).toString()).toBe('other');
  });

  test('of a long cut chunk is one line of base64', async () => {
    const job = await runningJob();
    await db.append(job, 0, 'a');
    await db.append(job, 0, 'ab'.repeat(200));
    expect((await kept('stdout')).toString()).toBe('ab'.repeat(200));
    const { rows } = await database.pool.query(`select data from job_output where encoding = 'base64'`);
    expect(rows[0].data).not.toContain('\n');
  });

  test('beyond 4 MiB of a stream is dropped, in each stream by itself', async () => {
    const job = await runningJob();
    const chunk = 'x'.repeat(1024 * 1024 - 1);
    for (let n = 0; n < 6; n += 1) await db.append(job, n * chunk.length, chunk);
    await db.append(job, 0, 'small', 'utf8', 'stderr');
    expect((await kept('stdout')).length).toBe(LIMIT);
    expect((await kept('stderr')).length).toBe(5);
  });

  test('is refused once the job has ended', async () => {
    const job = await runningJob();
    await db.finish(job);
    await expect(db.append(job, 0, 'late')).rejects.toMatchObject(refusal('fenced'));
  });
});
