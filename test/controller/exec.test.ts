import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Controller } from '../../controller/controller.ts';
import type { ExecProgress } from '../../controller/sessions/exec.ts';
import { OutputCollector } from '../../controller/sessions/exec-output.ts';
import type { FakeExec } from './fake-agent.ts';
import { World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.closeAll());
afterAll(() => world.end());

/** An open session of this id, and what its machine holds. */
async function open(id: string): Promise<{ app: string; controller: Controller; name: string }> {
  const app = await world.app();
  const controller = await world.controller(app);
  await controller.manager.createSandbox({ sessionId: id });
  return { app, controller, name: `s-${id}-1` };
}

async function exec(name: string, id: string): Promise<FakeExec> {
  const { inside } = world.running(name);
  await world.until(() => inside.execs.has(id));
  return inside.execs.get(id)!;
}

describe('execCommand', () => {
  it('loses and doubles no byte over any number of broken connections', async () => {
    const { controller, name } = await open('broken');
    const heard: string[] = [];
    const onEvent = (event: ExecProgress): void => {
      if (event.type === 'stdout') heard.push(event.data);
    };
    const running = controller.manager.execCommand('broken', 'wait', { execId: 'e', onEvent });
    const one = await exec(name, 'e');
    let expected = '';
    for (let n = 0; n < 5; n++) {
      one.write('stdout', `line ${n} é\n`);
      expected += `line ${n} é\n`;
      const { dials } = world.running(name).agent;
      world.running(name).agent.cut();
      await world.until(() => world.running(name).agent.dials > dials);
    }
    one.write('stderr', Buffer.from([0xff, 0xfe]));
    one.end({ kind: 'exited', code: 4 });
    expect(await running).toMatchObject({
      stdout: expected,
      exit_code: 4,
      stderr_bytes: 2,
      truncated: false,
    });
    expect(heard.join('')).toBe(expected);
    expect(world.running(name).inside.execs.size).toBe(1);
  });

  it('attaches when it is asked for the same id again', async () => {
    const { controller, name } = await open('again');
    const first = controller.manager.execCommand('again', 'wait', { execId: 'e' });
    const one = await exec(name, 'e');
    const second = controller.manager.execCommand('again', 'wait', { execId: 'e' });
    one.write('stdout', 'once');
    one.end({ kind: 'exited', code: 0 });
    expect((await first).stdout).toBe('once');
    expect((await second).stdout).toBe('once');
  });

  it('goes on under a controller that was started anew', async () => {
    const { app, controller, name } = await open('restart');
    // The first controller's caller is gone with it; the exec is not.
    controller.manager.execCommand('restart', 'wait', { execId: 'e' }).catch(() => undefined);
    const one = await exec(name, 'e');
    one.write('stdout', 'before ');
    await world.close(controller);
    const next = await world.controller(app);
    const attached = next.manager.execCommand('restart', 'wait', { execId: 'e' });
    await world.until(() => next.hub.get(name) !== undefined);
    one.write('stdout', 'after');
    one.end({ kind: 'exited', code: 0 });
    expect(await attached).toMatchObject({ stdout: 'before after', exit_code: 0 });
    expect(world.boots.filter((boot) => boot === name)).toHaveLength(1);
  });

  it('is machine_lost when the machine dies, and the session says so', async () => {
    const { controller, name } = await open('dies');
    let heard = false;
    const onEvent = ({ type }: { type: string }) => {
      heard ||= type === 'stdout';
    };
    const running = controller.manager.execCommand('dies', 'wait', { execId: 'e', onEvent });
    (await exec(name, 'e')).write('stdout', 'so far');
    await world.until(() => heard);
    world.running(name).machine.exit({ exit_code: 137 });
    expect(await running).toMatchObject({
      stdout: 'so far',
      exit_code: null,
      result: { kind: 'machine_lost' },
    });
    await world.until(async () => (await world.store.getSession('dies')).status === 'failed');
    expect((await world.store.getSession('dies')).error).toMatchObject({ code: 'machine_lost' });
    await expect(controller.manager.execCommand('dies', 'echo x')).rejects.toMatchObject({
      code: 'session_not_open',
    });
  });

  it('ends with the stop, and is not another machine’s exec when the session was opened anew meanwhile', async () => {
    const { controller, name } = await open('anew');
    const running = controller.manager.execCommand('anew', 'wait', { execId: 'e' });
    await exec(name, 'e');
    await controller.manager.destroySandbox('anew');
    await controller.lifecycle.startSandbox('anew');
    expect((await running).result).toEqual({ kind: 'signaled', signal: 'SIGTERM', by: 'stop' });
    expect(world.running('s-anew-2').inside.execs.size).toBe(0);
  });

  it('is unknown, not lost with its machine, when its end came while nobody followed and was dropped', async () => {
    const { controller, name } = await open('dropped');
    const running = controller.manager.execCommand('dropped', 'wait', { execId: 'e' });
    await exec(name, 'e');
    const error = { code: 'exec_ended', detail: 'Exec e ended and its output is no longer kept' };
    const { agent, inside } = world.running(name);
    inside.failures.push({ path: '/execs/e', times: 9, status: 409, error });
    agent.cut();
    expect(await running).toMatchObject({
      exit_code: null,
      result: { kind: 'unknown', reason: error.detail },
    });
  });

  it('keeps what it is told to of the output and counts the rest', async () => {
    const { controller, name } = await open('loud');
    const running = controller.manager.execCommand('loud', 'wait', { execId: 'e', maxOutputBytes: 5 });
    const one = await exec(name, 'e');
    one.write('stdout', '1234');
    one.write('stdout', '5678');
    one.end({ kind: 'exited', code: 0 });
    expect(await running).toMatchObject({ stdout: '12345', stdout_bytes: 8, truncated: true });
  });

  it('asks the database nothing', async () => {
    const { controller } = await open('hot');
    await controller.manager.execCommand('hot', 'echo warm');
    const { store } = controller;
    const asked: string[] = [];
    for (const [name, call] of Object.entries(store)) {
      Object.assign(store, {
        [name]: (...args: never[]) => {
          asked.push(name);
          return (call as (...args: never[]) => unknown)(...args);
        },
      });
    }
    for (let n = 0; n < 20; n++) await controller.manager.execCommand('hot', `echo ${n}`);
    expect(asked.filter((name) => !['listLiveSandboxes', 'claimJobs'].includes(name))).toEqual([]);
  });

  it.each([
    ['an empty text', '', {}, 'invalid_command'],
    ['an empty list', [], {}, 'invalid_command'],
    ['a NUL', 'a\0b', {}, 'invalid_command'],
    ['a NUL in a list', ['a', '\0'], {}, 'invalid_command'],
    ['an odd exec id', 'true', { execId: 'a/b' }, 'invalid_id'],
    ['a deadline of 0', 'true', { timeoutMs: 0 }, 'invalid_request'],
  ])('refuses %s', async (_what, command, options, code) => {
    const controller = await world.controller(await world.app());
    await expect(controller.manager.execCommand('any', command, options)).rejects.toMatchObject({ code });
  });

  it('says which session it does not know', async () => {
    const controller = await world.controller(await world.app());
    await expect(controller.manager.execCommand('nobody', 'true')).rejects.toMatchObject({
      code: 'session_not_found',
      detail: expect.stringContaining('nobody'),
    });
    await expect(controller.manager.execCommand('No/Body', 'true')).rejects.toMatchObject({
      code: 'invalid_id',
    });
  });

  it('passes the agent’s refusal on', async () => {
    const { controller, name } = await open('refuses');
    const error = { code: 'cwd_not_found', detail: 'cwd /nowhere does not exist', field: 'cwd' };
    world.running(name).inside.failures.push({ path: '/execs', times: 1, status: 400, error });
    await expect(
      controller.manager.execCommand('refuses', 'true', { cwd: '/nowhere' }),
    ).rejects.toMatchObject(error);
  });
});

describe('OutputCollector', () => {
  it('puts any cut of any bytes together again, pieces that come twice included', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 200 }),
        fc.array(fc.tuple(fc.nat(199), fc.nat(60)), { maxLength: 20 }),
        fc.nat(250),
        (bytes, repeats, mostBytes) => {
          const all = Buffer.from(bytes);
          const collector = new OutputCollector(mostBytes);
          const add = (from: number, to: number) =>
            collector.add({
              type: 'stdout',
              offset: from,
              data: all.subarray(from, to).toString('base64'),
              encoding: 'base64',
            });
          let next = 0;
          for (const [back, length] of repeats) {
            const to = Math.min(all.length, next + length);
            add(Math.max(0, next - back), to);
            next = Math.max(next, to);
          }
          add(0, all.length);
          const outcome = collector.outcome({
            type: 'end',
            result: { kind: 'exited', code: 0 },
            stdout_bytes: all.length,
            stderr_bytes: 0,
            duration_ms: 1,
          });
          expect(outcome.stdout).toBe(all.subarray(0, mostBytes).toString());
          expect(outcome.truncated).toBe(all.length > mostBytes);
        },
      ),
    );
  });
});
