import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startLocalFly } from '../../local/fly/server.ts';
import { createSimulatedEngine } from '../../local/fly/simulated/engine.ts';
import { config, startBench, temporaryFolder, token } from './harness.ts';

const machines = '/v1/apps/a1/machines';

test('after its death each machine is accounted for: by a sentence, an exit event and its own policy', async () => {
  const before = await startBench();
  const auto = { ...config, auto_destroy: true };
  const always = { image: 'i', restart: { policy: 'always' } };
  const stopped = await before.createStarted({ name: 'stopped' });
  await before.call('POST', `${machines}/${stopped}/stop`);
  const prepared = await before.create({ name: 'prepared', skip_launch: true });
  const running = await before.createStarted({ name: 'running' });
  const mortal = await before.createStarted({ name: 'mortal', config: auto });
  const eternal = await before.createStarted({ name: 'eternal', config: always });
  const doomed = await before.createStarted({ name: 'doomed' });
  const newborn = await before.create({ name: 'newborn' });
  await before.call('DELETE', `${machines}/${doomed}?force=true`);
  await before.call('POST', '/v1/apps/a1/secrets', { values: { A: '1' } });
  await before.fly.close();

  const after = await startBench({ stateDir: before.stateDir });
  expect(after.fly.recovered.toSorted()).toEqual(
    [
      `Machine ${running} (running, app a1) was started and died with local Fly (exit code 137); it is stopped.`,
      `Machine ${mortal} (mortal, app a1) was started and died with local Fly (exit code 137); it is destroyed, as auto_destroy asks.`,
      `Machine ${eternal} (eternal, app a1) was started and died with local Fly (exit code 137); it boots again by its restart policy.`,
      `Machine ${doomed} (doomed, app a1) was being destroyed when local Fly ended; that is finished now.`,
      `Machine ${newborn.id} (newborn, app a1) had not booted yet when local Fly ended; it boots now.`,
    ].toSorted(),
  );
  expect(after.log).toEqual(after.fly.recovered);
  const [exit] = (await after.call('GET', `${machines}/${running}/events`)).body;
  expect(exit).toMatchObject({
    type: 'exit',
    source: 'flyd',
    request: { exit_event: { exit_code: 137, requested_stop: false } },
  });
  await after.settle();
  const { body } = await after.call('GET', `${machines}?include_deleted=true`);
  const states = Object.fromEntries(body.map(({ id, state }: { id: string; state: string }) => [id, state]));
  expect(states).toEqual({
    [stopped]: 'stopped',
    [prepared.id]: 'created',
    [running]: 'stopped',
    [mortal]: 'destroyed',
    [eternal]: 'started',
    [doomed]: 'destroyed',
    [newborn.id]: 'started',
  });
  expect(after.engine.discarded).toEqual(
    expect.arrayContaining([running, mortal, eternal, doomed, newborn.id]),
  );
  expect(after.engine.running.get(eternal)!.spec.env.A).toBe('1');
});

test('the deletion of an app that was cut off goes on', async () => {
  const before = await startBench();
  const id = await before.createStarted();
  await before.call('DELETE', '/v1/apps/a1');
  await before.fly.close();
  const after = await startBench({ stateDir: before.stateDir });
  await after.settle();
  expect(after.engine.discarded).toContain(id);
  expect((await after.call('POST', '/v1/apps', { name: 'a1' })).status).toBe(201);
});

test('a folder in use is refused and free again afterwards', async () => {
  const bench = await startBench();
  const options = { engine: createSimulatedEngine(), stateDir: bench.stateDir, tokens: [token] };
  await expect(startLocalFly(options)).rejects.toThrow(
    `${bench.stateDir} is in use by another local Fly (process ${process.pid})`,
  );
  await bench.fly.close();
  const next = await startLocalFly(options);
  await next.close();
});

test('a record that cannot be read is named, and the folder is let go', async () => {
  const stateDir = await temporaryFolder();
  const engine = createSimulatedEngine();
  const first = await startLocalFly({ engine, stateDir, tokens: [token] });
  await first.close();
  const file = join(stateDir, 'machines', 'broken.json');
  await writeFile(file, '{"id":');
  for (let i = 0; i < 2; i++) {
    await expect(startLocalFly({ engine, stateDir, tokens: [token] })).rejects.toThrow(file);
  }
});

test('a write that was cut off before its rename is passed over', async () => {
  const before = await startBench();
  const { id } = await before.create({ skip_launch: true });
  await before.fly.close();
  await writeFile(join(before.stateDir, 'machines', `${id}.json.new`), '{"id":');
  const after = await startBench({ stateDir: before.stateDir });
  expect(await after.state(id)).toBe('created');
});

test('stopMachines ends each as its stop_config says, also one that only then boots', async () => {
  const bench = await startBench({ timings: { prepareMs: 0, bootMs: 0, destroyMs: 0 } });
  const stop_config = { signal: 'SIGTERM' };
  const one = await bench.createStarted({ config: { ...config, stop_config } });
  const running = bench.engine.running.get(one)!;
  const two = await bench.createStarted({ config: { ...config, auto_destroy: true } });
  await bench.fly.stopMachines();
  expect(running.signals).toEqual(['SIGTERM']);
  expect([await bench.state(one), await bench.state(two)]).toEqual(['stopped', 'destroyed']);
});

test('a machine whose leftovers cannot be removed stays `destroying` until they can', async () => {
  const bench = await startBench();
  bench.engine.discard = () => Promise.reject(new Error('EBUSY'));
  const id = await bench.createStarted();
  await bench.call('DELETE', `/v1/apps/a1/machines/${id}?force=true`);
  await bench.clock.advance(60_000);
  expect(await bench.state(id)).toBe('destroying');
  expect(bench.log).toHaveLength(5);
  await bench.fly.close();

  const after = await startBench({ stateDir: bench.stateDir });
  await after.settle();
  expect([await after.state(id), after.engine.discarded]).toEqual(['destroyed', [id, id]]);
});
