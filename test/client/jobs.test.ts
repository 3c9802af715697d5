import { afterEach, beforeEach, expect, test } from 'vitest';
import { MobVibe, type OutputChunk } from '../../client/index.ts';
import { API_KEY, Harness } from '../api/support/harness.ts';

let harness: Harness;
let mobvibe: MobVibe;

beforeEach(async () => {
  harness = await Harness.start();
  await harness.fake.open('demo');
  mobvibe = new MobVibe({ url: harness.url, apiKey: API_KEY });
});

afterEach(async () => {
  mobvibe.close();
  await harness.close();
});

const end = (id: string) =>
  Object.assign(harness.fake.job(id), {
    status: 'succeeded',
    ended_at: new Date().toISOString(),
    result: { result: { kind: 'exited', code: 0 }, stdout_bytes: 8, stderr_bytes: 0, duration_ms: 5 },
  });

test('a job is created once, looked at, listed and canceled', async () => {
  const job = await mobvibe.jobs.create('demo', ['npm', 'test'], {
    id: 'j1',
    cwd: 'app',
    commandTimeoutMs: 5_000,
  });
  expect(job).toMatchObject({
    id: 'j1',
    command: ['npm', 'test'],
    cwd: 'app',
    timeout_ms: 5_000,
    max_attempts: 3,
  });
  await mobvibe.jobs.create('demo', ['npm', 'test'], { id: 'j1' });
  await mobvibe.jobs.create('demo', 'ls');
  expect((await mobvibe.jobs.list({ sessionId: 'demo' })).items).toHaveLength(2);
  expect(await mobvibe.jobs.get('j1')).toMatchObject({ status: 'queued' });
  expect(await mobvibe.jobs.cancel('j1')).toMatchObject({ status: 'canceled' });
  await expect(mobvibe.jobs.get('none')).rejects.toMatchObject({ code: 'job_not_found' });
});

test('pages go on with their cursor', async () => {
  for (const id of ['a', 'b', 'c']) await mobvibe.jobs.create('demo', 'ls', { id });
  const first = await mobvibe.jobs.list({ limit: 2 });
  expect(first.items.map(({ id }) => id)).toEqual(['a', 'b']);
  const second = await mobvibe.jobs.list({ limit: 2, cursor: first.nextCursor! });
  expect([second.items.map(({ id }) => id), second.nextCursor]).toEqual([['c'], null]);
});

test('wait returns the job once it has ended, or gives up at its deadline', async () => {
  await mobvibe.jobs.create('demo', 'ls', { id: 'j' });
  await expect(mobvibe.jobs.wait('j', { timeoutMs: 80 })).rejects.toMatchObject({
    code: 'deadline_exceeded',
  });
  const waiting = mobvibe.jobs.wait('j');
  end('j');
  expect(await waiting).toMatchObject({
    status: 'succeeded',
    result: { result: { kind: 'exited', code: 0 } },
  });
});

test('logs are followed to the end, over a broken connection, each byte once', async () => {
  await mobvibe.jobs.create('demo', 'ls', { id: 'j' });
  harness.fake.say('j', 'stdout', 'one\n');
  const log = mobvibe.jobs.logs('j', { follow: true });
  const text = (chunk: OutputChunk | unknown) => String((chunk as { data: Buffer }).data);
  expect(text((await log.next()).value)).toBe('one\n');
  harness.cutClients();
  harness.fake.say('j', 'stderr', 'oops\n');
  harness.fake.say('j', 'stdout', 'two\n');
  end('j');
  const rest: string[] = [];
  let step = await log.next();
  for (; !step.done; step = await log.next()) rest.push(text(step.value));
  expect(rest).toEqual(['oops\n', 'two\n']);
  expect(step.value).toMatchObject({ id: 'j', status: 'succeeded' });
});
