import { expect, test } from 'vitest';
import { startBench, token } from './harness.ts';

const machines = '/v1/apps/a1/machines';

test('answers as soon as the state is reached, with the version and the event', async () => {
  const bench = await startBench();
  const { id, instance_id } = await bench.create();
  const before = bench.clock.waiting;
  const waits = [
    bench.call('GET', `${machines}/${id}/wait`),
    bench.call('GET', `${machines}/${id}/wait?state=settled`),
    bench.call('GET', `${machines}/${id}/wait?state=stopped&state=started&timeout=30`),
    bench.call('GET', `${machines}/${id}/wait?state=stopped,started&version=${instance_id}`),
  ];
  await expect.poll(() => bench.clock.waiting).toBe(before + waits.length);
  await bench.settle();
  for (const { status, body } of await Promise.all(waits)) {
    expect(status).toBe(200);
    expect(body).toMatchObject({ ok: true, state: 'started', version: instance_id });
  }
});

test('answers 408 at its deadline and names what it saw', async () => {
  const bench = await startBench({ timings: { prepareMs: 120_000 } });
  const { id } = await bench.create();
  const before = bench.clock.waiting;
  const answer = bench.call('GET', `${machines}/${id}/wait?timeout=60`);
  await expect.poll(() => bench.clock.waiting).toBe(before + 1);
  await bench.clock.advance(60_000);
  expect(await answer).toMatchObject({
    status: 408,
    body: { error: 'deadline_exceeded: machine failed to reach desired state, started, currently created' },
  });
  expect(bench.clock.waiting).toBe(before);
});

test('a version that an update supersedes is `replaced`', async () => {
  const bench = await startBench();
  const id = await bench.createStarted();
  const { body } = await bench.call('GET', `${machines}/${id}`);
  await bench.call('POST', `${machines}/${id}`, { config: body.config });
  await bench.settle();
  const before = bench.clock.waiting;
  const answer = bench.call('GET', `${machines}/${id}/wait?timeout=1&instance_id=${body.instance_id}`);
  await expect.poll(() => bench.clock.waiting).toBe(before + 1);
  await bench.clock.advance(1_000);
  expect(await answer).toMatchObject({
    status: 408,
    body: { error: expect.stringContaining('currently replaced') },
  });
});

test.each([
  ['timeout=0', 'value must be inside range [1s, 1m0s]'],
  ['timeout=61', 'value must be inside range [1s, 1m0s]'],
  ['timeout=x', 'timeout: "x"'],
  ['state=happy', '"happy"'],
])('%s is refused with 400', async (query, words) => {
  const bench = await startBench();
  const { id } = await bench.create();
  const { status, body } = await bench.call('GET', `${machines}/${id}/wait?${query}`);
  expect([status, body.error]).toEqual([400, expect.stringContaining(words)]);
});

test('an unknown machine is 404, a destroyed one is `destroyed` at once', async () => {
  const bench = await startBench();
  const id = await bench.createStarted();
  expect((await bench.call('GET', `${machines}/00000000000000/wait`)).status).toBe(404);
  await bench.call('DELETE', `${machines}/${id}?force=true`);
  await bench.settle();
  expect((await bench.call('GET', `${machines}/${id}/wait?state=destroyed`)).status).toBe(200);
});

test('from_event_id waits for something newer', async () => {
  const bench = await startBench();
  const id = await bench.createStarted();
  const [latest] = (await bench.call('GET', `${machines}/${id}/events`)).body;
  const before = bench.clock.waiting;
  const answer = bench.call('GET', `${machines}/${id}/wait?state=started&from_event_id=${latest.id}`);
  await expect.poll(() => bench.clock.waiting).toBe(before + 1);
  await bench.call('POST', `${machines}/${id}/restart`);
  await bench.settle();
  expect((await answer).body.event_id > latest.id).toBe(true);
});

test('a waiter that goes away, and the end of local Fly, leave no timer behind', async () => {
  const bench = await startBench();
  const { id } = await bench.create({ skip_launch: true });
  const before = bench.clock.waiting;
  const gone = new AbortController();
  const url = `${bench.fly.url}${machines}/${id}/wait`;
  const request = fetch(url, { signal: gone.signal, headers: { authorization: `Bearer ${token}` } });
  const failed = expect(request).rejects.toThrow('aborted');
  await expect.poll(() => bench.clock.waiting).toBe(before + 1);
  gone.abort();
  await failed;
  await expect.poll(() => bench.clock.waiting).toBe(before);
});
