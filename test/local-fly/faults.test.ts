import { expect, test } from 'vitest';
import { type CapacityReason, capacityAnswers } from '../../local/fly/faults.ts';
import { config, startBench } from './harness.ts';

const machines = '/v1/apps/a1/machines';

test('a create whose answer is lost has made its machine', async () => {
  const bench = await startBench();
  await bench.call('POST', '/v1/apps', { name: 'a1' });
  bench.fly.faults.add({ kind: 'lost_answer', action: 'machine.create', name: 's-1' });
  expect((await bench.call('POST', machines, { name: 's-0', config })).status).toBe(200);
  await expect(bench.call('POST', machines, { name: 's-1', config })).rejects.toThrow('fetch failed');
  const { body } = await bench.call('GET', machines);
  expect(body.map(({ name }: { name: string }) => name)).toEqual(['s-0', 's-1']);
  expect(bench.fly.faults.pending()).toEqual([]);
});

test('an answer may be another one, before the work or after it', async () => {
  const bench = await startBench();
  await bench.call('POST', '/v1/apps', { name: 'a1' });
  const answer = {
    kind: 'answer',
    action: 'machine.create',
    status: 408,
    error: 'deadline_exceeded: flyd',
  } as const;
  bench.fly.faults.add({ ...answer, done: true });
  bench.fly.faults.add({ ...answer, status: 502, times: 2 });
  const statuses = [];
  for (const name of ['m1', 'm2', 'm3', 'm4'])
    statuses.push((await bench.call('POST', machines, { name, config })).status);
  expect(statuses).toEqual([408, 502, 502, 200]);
  const { body } = await bench.call('GET', machines);
  expect(body.map(({ name }: { name: string }) => name)).toEqual(['m1', 'm4']);
});

test('a fault may be for one method of an action', async () => {
  const bench = await startBench();
  await bench.call('POST', '/v1/apps', { name: 'a1' });
  const path = '/v1/apps/a1/ip_assignments';
  const action = 'app.ip_assignments';
  bench.fly.faults.add({ kind: 'answer', action, method: 'POST', status: 500, error: 'oops' });
  expect((await bench.call('GET', path)).status).toBe(200);
  expect((await bench.call('POST', path, { type: 'v6' })).status).toBe(500);
  expect((await bench.call('POST', path, { type: 'v6' })).status).toBe(200);
});

test.each(Object.keys(capacityAnswers) as CapacityReason[])('no room: %s', async (reason) => {
  const bench = await startBench();
  await bench.call('POST', '/v1/apps', { name: 'a1' });
  bench.fly.faults.add({ kind: 'capacity', reason });
  const { status, body } = await bench.call('POST', machines, { config });
  expect([status, body.error]).toEqual([capacityAnswers[reason].status, capacityAnswers[reason].error]);
  expect((await bench.call('POST', machines, { config })).status).toBe(200);
});

test('lists may be empty or out of date', async () => {
  const bench = await startBench();
  const first = await bench.createStarted();
  bench.fly.faults.add({ kind: 'stale_list' });
  bench.fly.faults.add({ kind: 'empty_list' });
  await bench.create();
  await bench.call('POST', `${machines}/${first}/stop`);
  await bench.settle();
  const list = async () =>
    (await bench.call('GET', machines)).body.map(({ state }: { state: string }) => state);
  expect([await list(), await list(), await list()]).toEqual([['started'], [], ['stopped', 'started']]);
});

test.each(['created', 'starting'] as const)('a machine stuck in %s can still be destroyed', async (state) => {
  const bench = await startBench();
  bench.fly.faults.add({ kind: 'stuck', state });
  const { id } = await bench.create();
  await bench.clock.advance(3_600_000);
  expect(await bench.state(id)).toBe(state);
  expect((await bench.call('DELETE', `${machines}/${id}?force=true`)).status).toBe(200);
  await bench.settle();
  expect(await bench.state(id)).toBe('destroyed');
});

test('a sudden death is an exit nobody asked for; the kernel may have done it for memory', async () => {
  const bench = await startBench();
  const id = await bench.createStarted();
  await bench.fly.kill(id, { oomKilled: true });
  await bench.settle();
  const [exit] = (await bench.call('GET', `${machines}/${id}/events`)).body;
  expect(exit.request.exit_event).toMatchObject({ exit_code: 137, oom_killed: true, requested_stop: false });
});

test('an unreachable host hides the config, hangs changes and ignores a destroy', async () => {
  const bench = await startBench();
  const id = await bench.createStarted();
  bench.fly.setHostStatus(id, 'unreachable');
  const { body } = await bench.call('GET', `${machines}/${id}`);
  expect(body.host_status).toBe('unreachable');
  expect([body.config, body.incomplete_config.image]).toEqual([undefined, config.image]);
  expect((await bench.call('POST', `${machines}/${id}/stop`)).status).toBe(408);
  expect((await bench.call('DELETE', `${machines}/${id}?force=true`)).status).toBe(200);
  await bench.settle();
  expect(await bench.state(id)).toBe('started');
  bench.fly.setHostStatus(id, 'ok');
  await bench.call('DELETE', `${machines}/${id}?force=true`);
  await bench.settle();
  expect(await bench.state(id)).toBe('destroyed');
});

test('faults can be switched on over HTTP; one that makes no sense is refused', async () => {
  const bench = await startBench();
  const fault = { kind: 'answer', action: 'machine.exec', status: 408, error: 'deadline_exceeded' };
  expect((await bench.call('POST', '/local/faults', fault)).status).toBe(204);
  expect((await bench.call('GET', '/local/faults')).body).toEqual([{ ...fault, times: 1 }]);
  const id = await bench.createStarted();
  expect((await bench.call('POST', `${machines}/${id}/exec`, { cmd: 'ls' })).status).toBe(408);
  for (const wrong of [{}, { kind: 'capacity', reason: 'x' }, { kind: 'answer', action: 'machine.exec' }]) {
    expect((await bench.call('POST', '/local/faults', wrong)).status).toBe(400);
  }
  await bench.call('POST', '/local/faults', fault);
  expect((await bench.call('DELETE', '/local/faults')).status).toBe(204);
  expect(bench.fly.faults.pending()).toEqual([]);
  const host_status = { host_status: 'unreachable' };
  expect((await bench.call('PUT', `/local/machines/${id}/host_status`, host_status)).status).toBe(204);
  expect((await bench.call('POST', `/local/machines/${id}/die`)).status).toBe(204);
});
