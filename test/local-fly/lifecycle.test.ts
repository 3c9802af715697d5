import { describe, expect, test } from 'vitest';
import { config, startBench } from './harness.ts';

const machines = '/v1/apps/a1/machines';

describe('from create to started', () => {
  test('a create answers at once with `created` and one event, and boots behind', async () => {
    const bench = await startBench();
    const machine = await bench.create({ name: 's-1', region: 'ams,eu' });
    expect(machine).toMatchObject({ name: 's-1', state: 'created', region: 'ams', host_status: 'ok' });
    expect(machine.id).toMatch(/^[0-9a-f]{14}$/);
    expect(machine.events).toMatchObject([{ type: 'launch', status: 'created', source: 'user' }]);
    expect(machine.config).toMatchObject({
      init: {},
      dns: {},
      guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
    });

    await bench.clock.advance(5_700);
    expect(await bench.state(machine.id)).toBe('starting');
    await bench.clock.advance(300);
    const { body } = await bench.call('GET', `${machines}/${machine.id}`);
    expect(body.state).toBe('started');
    expect(body.events.map((event: { status: string }) => event.status)).toEqual([
      'started',
      'starting',
      'created',
    ]);
  });

  test('a newborn machine cannot be started, one made with skip_launch waits for it', async () => {
    const bench = await startBench();
    const newborn = await bench.create();
    expect(await bench.call('POST', `${machines}/${newborn.id}/start`)).toMatchObject({
      status: 412,
      body: { error: "failed_precondition: unable to start machine from current state: 'created'" },
    });
    const prepared = await bench.create({ skip_launch: true });
    await bench.settle();
    expect(await bench.state(prepared.id)).toBe('created');
    expect((await bench.call('POST', `${machines}/${prepared.id}/start`)).body).toMatchObject({
      previous_state: 'created',
    });
    await bench.settle();
    expect(await bench.state(prepared.id)).toBe('started');
  });

  test('a boot that fails ends in `failed` and says why in its event', async () => {
    const bench = await startBench({
      simulated: {
        onStart: () => {
          throw new Error('no room for its root');
        },
      },
    });
    const id = await bench.createStarted();
    const { body } = await bench.call('GET', `${machines}/${id}`);
    expect(body.state).toBe('failed');
    expect(body.events[0].request).toEqual({ error: 'no room for its root' });
  });

  test('an image that the engine does not know is refused at create', async () => {
    const bench = await startBench({ simulated: { hasImage: () => false } });
    await bench.call('POST', '/v1/apps', { name: 'a1' });
    const { status, body } = await bench.call('POST', machines, { config });
    expect([status, body.error]).toEqual([400, expect.stringContaining('registry.fly.io/sandbox:1')]);
  });

  test('a machine finds platform variables, secrets and its own env in its environment', async () => {
    const bench = await startBench();
    await bench.call('POST', '/v1/apps', { name: 'a1' });
    await bench.call('POST', '/v1/apps/a1/secrets', { values: { KEY: 'from secret', OLD: 'x' } });
    await bench.call('POST', '/v1/apps/a1/secrets', { values: { OLD: null } });
    const id = await bench.createStarted({ config: { ...config, env: { KEY: 'from env', MINE: '1' } } });
    const { env } = bench.engine.running.get(id)!.spec;
    expect(env).toMatchObject({ KEY: 'from secret', MINE: '1', FLY_APP_NAME: 'a1', FLY_MACHINE_ID: id });
    expect(env).not.toHaveProperty('OLD');
    const bare = await bench.createStarted({ skip_secrets: true });
    expect(bench.engine.running.get(bare)!.spec.env).not.toHaveProperty('KEY');
  });
});

describe('names', () => {
  test('are unique among live machines and free again after destroy', async () => {
    const bench = await startBench();
    const { id } = await bench.create({ name: 's-1' });
    expect(await bench.call('POST', machines, { name: 's-1', config })).toMatchObject({
      status: 409,
      body: {
        error: `already_exists: unique machine name violation, machine ID ${id} already exists with name "s-1"`,
      },
    });
    await bench.call('DELETE', `${machines}/${id}?force=true`);
    await bench.settle();
    expect((await bench.create({ name: 's-1' })).id).not.toBe(id);
  });

  test('creates that look up their image at the same time: exactly one wins', async () => {
    const lookup = Promise.withResolvers<boolean>();
    let lookups = 0;
    const hasImage = () => {
      lookups++;
      return lookup.promise;
    };
    const bench = await startBench({ simulated: { hasImage } });
    await bench.call('POST', '/v1/apps', { name: 'a1' });
    const creates = [1, 2, 3, 4].map(() => bench.call('POST', machines, { name: 'same', config }));
    await expect.poll(() => lookups).toBe(4);
    lookup.resolve(true);
    expect((await Promise.all(creates)).map(({ status }) => status).sort()).toEqual([200, 409, 409, 409]);
  });
});

describe('the end of a machine', () => {
  test('stop sends the configured signal, and SIGKILL after the grace', async () => {
    const bench = await startBench({ simulated: { onSignal: () => 'ignore' } });
    const stop_config = { signal: 'SIGTERM', timeout: '10s' };
    const id = await bench.createStarted({ config: { ...config, stop_config } });
    const running = bench.engine.running.get(id)!;
    expect((await bench.call('POST', `${machines}/${id}/stop`)).body).toEqual({ ok: true });
    expect(await bench.state(id)).toBe('stopping');
    await bench.clock.advance(9_999);
    expect(running.signals).toEqual(['SIGTERM']);
    await bench.clock.advance(1);
    expect(running.signals).toEqual(['SIGTERM', 'SIGKILL']);
    const { body } = await bench.call('GET', `${machines}/${id}`);
    expect(body.state).toBe('stopped');
    expect(body.events[0]).toMatchObject({
      type: 'exit',
      status: 'stopped',
      source: 'flyd',
      request: { exit_event: { requested_stop: true, exit_code: 137, oom_killed: false } },
    });
  });

  test('auto_destroy acts on a clean exit, a failure and a stop', async () => {
    const bench = await startBench();
    const auto = { config: { ...config, auto_destroy: true } };
    const ids = [];
    for (let i = 0; i < 3; i++) ids.push(await bench.createStarted(auto));
    bench.engine.running.get(ids[0]!)!.exit();
    bench.engine.running.get(ids[1]!)!.exit({ exit_code: 3 });
    await bench.call('POST', `${machines}/${ids[2]}/stop`);
    await bench.settle();
    expect((await bench.call('GET', machines)).body).toEqual([]);
    expect(bench.engine.discarded.toSorted()).toEqual(ids.toSorted());
    const { body } = await bench.call('GET', `${machines}/${ids[1]}/events`);
    const exit = body.find((event: { type: string }) => event.type === 'exit');
    expect(exit.request.exit_event).toMatchObject({ exit_code: 3, requested_stop: false });
  });

  test('a destroyed machine is shown for a while and then 404', async () => {
    const bench = await startBench({ timings: { destroyedVisibleMs: 60_000 } });
    const id = await bench.createStarted();
    expect(await bench.call('DELETE', `${machines}/${id}`)).toMatchObject({
      status: 412,
      body: { error: expect.stringContaining('not currently stopped, suspended, failed or created') },
    });
    expect((await bench.call('DELETE', `${machines}/${id}?kill=true`)).body).toEqual({ ok: true });
    await bench.settle();
    expect(await bench.state(id)).toBe('destroyed');
    expect((await bench.call('DELETE', `${machines}/${id}`)).status).toBe(200);
    expect((await bench.call('GET', `${machines}?include_deleted=true`)).body).toHaveLength(1);
    await bench.clock.advance(60_000);
    expect((await bench.call('GET', `${machines}/${id}`)).status).toBe(404);
  });

  test('restart on-failure gives up after max_retries; a clean exit is no failure', async () => {
    const bench = await startBench();
    const restart = { policy: 'on-failure', max_retries: 2 };
    const id = await bench.createStarted({ config: { ...config, restart } });
    for (let i = 0; i < 3; i++) {
      bench.engine.running.get(id)!.exit({ exit_code: 1 });
      await bench.settle();
    }
    expect(await bench.state(id)).toBe('stopped');
    expect(bench.engine.boots).toEqual([id, id, id]);

    const clean = await bench.createStarted({ config: { ...config, restart } });
    bench.engine.running.get(clean)!.exit();
    await bench.settle();
    expect(await bench.state(clean)).toBe('stopped');
  });

  test('a stop while it boots takes effect when it has booted', async () => {
    const boot = Promise.withResolvers<void>();
    const bench = await startBench({ simulated: { onStart: () => boot.promise } });
    const { id } = await bench.create();
    await bench.clock.advance(5_700);
    expect(await bench.state(id)).toBe('starting');
    await bench.call('POST', `${machines}/${id}/stop`);
    boot.resolve();
    await bench.settle();
    expect(await bench.state(id)).toBe('stopped');
    expect(bench.engine.running.size).toBe(0);
  });

  test('a destroy before the boot means that it never boots', async () => {
    const bench = await startBench();
    const { id } = await bench.create();
    await bench.call('DELETE', `${machines}/${id}`);
    await bench.settle();
    expect(await bench.state(id)).toBe('destroyed');
    expect(bench.engine.boots).toEqual([]);
  });
});

describe('other moves', () => {
  test('restart boots the same machine again', async () => {
    const bench = await startBench();
    const id = await bench.createStarted();
    expect((await bench.call('POST', `${machines}/${id}/restart?timeout=5s&signal=SIGTERM`)).status).toBe(
      200,
    );
    await bench.settle();
    expect(await bench.state(id)).toBe('started');
    expect(bench.engine.boots).toEqual([id, id]);
  });

  test('suspend keeps what runs, start resumes it, stop throws it away', async () => {
    const bench = await startBench();
    const id = await bench.createStarted();
    const running = bench.engine.running.get(id)!;
    await bench.call('POST', `${machines}/${id}/suspend`);
    await bench.settle();
    expect([await bench.state(id), running.suspended]).toEqual(['suspended', true]);
    await bench.call('POST', `${machines}/${id}/start`);
    await bench.settle();
    expect([await bench.state(id), running.suspended]).toEqual(['started', false]);
    expect(bench.engine.boots).toEqual([id]);
    await bench.call('POST', `${machines}/${id}/suspend`);
    await bench.settle();
    await bench.call('POST', `${machines}/${id}/stop`);
    await bench.settle();
    expect([await bench.state(id), bench.engine.running.size]).toEqual(['stopped', 0]);
  });

  test('what the rules of suspend forbid is refused, and 501 where the engine cannot', async () => {
    const bench = await startBench({ simulated: { canSuspend: false } });
    const id = await bench.createStarted();
    expect((await bench.call('POST', `${machines}/${id}/suspend`)).status).toBe(501);
    const big = await bench.createStarted({ config: { ...config, guest: { cpus: 2, memory_mb: 4096 } } });
    expect((await bench.call('POST', `${machines}/${big}/suspend`)).status).toBe(412);
  });

  test('update replaces the whole config under a new version and restarts what ran', async () => {
    const bench = await startBench();
    const id = await bench.createStarted({ config: { ...config, env: { A: '1' } } });
    const before = (await bench.call('GET', `${machines}/${id}`)).body.instance_id;
    const stale = { config, current_version: '01OLD' };
    expect((await bench.call('POST', `${machines}/${id}`, stale)).status).toBe(409);
    const { body } = await bench.call('POST', `${machines}/${id}`, { config, current_version: before });
    expect(body.instance_id > before).toBe(true);
    expect(body.config).not.toHaveProperty('env');
    await bench.settle();
    expect([await bench.state(id), bench.engine.boots]).toEqual(['started', [id, id]]);
    const { body: versions } = await bench.call('GET', `${machines}/${id}/versions`);
    expect(versions.map((entry: { version: string }) => entry.version)).toEqual([body.instance_id, before]);
    expect(versions[1].user_config.env).toEqual({ A: '1' });
  });

  test('signal takes names and numbers, and refuses others', async () => {
    const bench = await startBench({ simulated: { onSignal: () => 'ignore' } });
    const id = await bench.createStarted();
    for (const signal of ['SIGUSR1', 12]) await bench.call('POST', `${machines}/${id}/signal`, { signal });
    expect(bench.engine.running.get(id)!.signals).toEqual(['SIGUSR1', 'SIGUSR2']);
    expect((await bench.call('POST', `${machines}/${id}/signal`, { signal: 'SIGWHAT' })).status).toBe(400);
  });

  test('exec answers 200 whatever the exit code, 412 when it does not run, 400 above 60 s', async () => {
    const bench = await startBench({
      simulated: {
        onExec: (_machine, { command, stdin }) => ({ exit_code: 7, stdout: `${command.join('|')}<${stdin}` }),
      },
    });
    const { id } = await bench.create();
    expect((await bench.call('POST', `${machines}/${id}/exec`, { command: ['ls'] })).status).toBe(412);
    await bench.settle();
    const exec = (body: object) => bench.call('POST', `${machines}/${id}/exec`, body);
    expect((await exec({ cmd: `echo 'a b'  "c"`, stdin: 'in', timeout: 5 })).body).toEqual({
      exit_code: 7,
      exit_signal: 0,
      stdout: 'echo|a b|c<in',
      stderr: '',
    });
    expect((await exec({ command: ['ls'], timeout: 61 })).status).toBe(400);
    expect((await exec({ command: [] })).status).toBe(400);
  });
});
