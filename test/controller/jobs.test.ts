import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Controller } from '../../controller/controller.ts';
import type { JobRow, JobSpec } from '../../controller/store/rows.ts';
import type { FakeExec } from './fake-agent.ts';
import { World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.closeAll());
afterAll(() => world.end());

async function open(id: string): Promise<{ app: string; controller: Controller }> {
  const app = await world.app();
  const controller = await world.controller(app);
  await controller.manager.createSandbox({ sessionId: id });
  return { app, controller };
}

async function queue(sessionId: string, id: string, spec: JobSpec, maxAttempts = 3): Promise<void> {
  await world.store.enqueueJob({ id, sessionId, spec, maxAttempts, actor: 'test' });
}

async function ended(id: string): Promise<JobRow> {
  await world.until(async () => (await world.store.getJob(id)).ended_at !== null);
  return world.store.getJob(id);
}

async function exec(sandbox: string, id: string): Promise<FakeExec> {
  await world.until(() => world.machines.get(sandbox)?.inside.execs.has(id));
  return world.running(sandbox).inside.execs.get(id)!;
}

async function output(id: string): Promise<string> {
  const rows = await world.store.listJobOutput(id, { limit: 1000 });
  return rows
    .filter(({ stream }) => stream === 'stdout')
    .sort((a, b) => a.byte_offset - b.byte_offset)
    .map(({ data, encoding }) => Buffer.from(data, encoding).toString())
    .join('');
}

describe('a job', () => {
  it('runs in the session’s sandbox; its output and result are kept', async () => {
    const { controller } = await open('plain');
    await queue('plain', 'job-1', { command: 'echo hi there' });
    controller.jobs.poke();
    expect(await ended('job-1')).toMatchObject({
      status: 'succeeded',
      attempts: 1,
      result: { result: { kind: 'exited', code: 0 }, stdout_bytes: 9 },
    });
    expect(await output('job-1')).toBe('hi there\n');
  });

  it('that exits with another code has failed, with that code', async () => {
    await open('fails');
    await queue('fails', 'job-2', { command: 'exit 7' });
    expect(await ended('job-2')).toMatchObject({
      status: 'failed',
      result: { result: { kind: 'exited', code: 7 } },
    });
  });

  it('that was killed for memory says so', async () => {
    const { controller } = await open('hungry');
    await queue('hungry', 'job-15', { command: 'wait' });
    (await exec('s-hungry-1', 'job-job-15-1')).end(
      { kind: 'signaled', signal: 'SIGKILL' },
      { oom_killed: true },
    );
    expect(await ended('job-15')).toMatchObject({ status: 'failed', result: { oom_killed: true } });
    const running = controller.manager.execCommand('hungry', 'wait', { execId: 'e' });
    (await exec('s-hungry-1', 'e')).end({ kind: 'signaled', signal: 'SIGKILL' }, { oom_killed: true });
    expect(await running).toMatchObject({ exit_code: null, oom_killed: true });
  });

  it('opens a session that is stopped', async () => {
    const { controller } = await open('closed');
    await controller.manager.destroySandbox('closed');
    await queue('closed', 'job-3', { command: 'echo opened' });
    expect(await ended('job-3')).toMatchObject({ status: 'succeeded' });
    expect(await world.store.getSession('closed')).toMatchObject({ status: 'ready', incarnation: 2 });
  });

  it('writes its output while it runs', async () => {
    await open('streams');
    await queue('streams', 'job-4', { command: 'wait' });
    const running = await exec('s-streams-1', 'job-job-4-1');
    running.write('stdout', 'first ');
    await world.until(async () => (await output('job-4')) === 'first ');
    running.write('stdout', Buffer.from('ünd'));
    running.end({ kind: 'exited', code: 0 });
    expect(await ended('job-4')).toMatchObject({ status: 'succeeded' });
    expect(await output('job-4')).toBe('first ünd');
  });

  it('of a session waits for the one before it', async () => {
    await open('serial');
    await queue('serial', 'job-5', { command: 'wait' });
    await queue('serial', 'job-6', { command: 'echo second' });
    const first = await exec('s-serial-1', 'job-job-5-1');
    expect(await world.store.getJob('job-6')).toMatchObject({ status: 'queued' });
    first.end({ kind: 'exited', code: 0 });
    await ended('job-6');
    expect([...world.running('s-serial-1').inside.execs.keys()]).toEqual(['job-job-5-1', 'job-job-6-1']);
  });

  it('is followed on by the next controller, under the same exec, with no byte lost', async () => {
    const { app, controller } = await open('handed');
    await queue('handed', 'job-7', { command: 'wait' });
    const running = await exec('s-handed-1', 'job-job-7-1');
    running.write('stdout', 'one ');
    await world.until(async () => (await output('job-7')) === 'one ');
    await world.close(controller);
    running.write('stdout', 'two');
    running.end({ kind: 'exited', code: 0 });
    await world.controller(app);
    expect(await ended('job-7')).toMatchObject({ status: 'succeeded', attempts: 1 });
    expect(await output('job-7')).toBe('one two');
    expect(world.running('s-handed-1').inside.execs.size).toBe(1);
  });

  it('that was marked as started but never asked for is started by the next claimer, once', async () => {
    const { app, controller } = await open('marked');
    await world.close(controller);
    await queue('marked', 'job-8', { command: 'echo once' });
    const [claimed] = await world.store.claimJobs('somebody', 1, 1, [app]);
    await world.store.jobStarted({ id: 'job-8', token: claimed!.token! });
    await world.controller(app);
    expect(await ended('job-8')).toMatchObject({ status: 'succeeded' });
    expect([...world.running('s-marked-1').inside.execs.keys()]).toEqual(['job-job-8-1']);
  });

  it('whose machine dies is not run again', async () => {
    const { controller } = await open('dies');
    await queue('dies', 'job-9', { command: 'wait' });
    await exec('s-dies-1', 'job-job-9-1');
    world.running('s-dies-1').machine.exit();
    expect(await ended('job-9')).toMatchObject({
      status: 'failed',
      result: { result: { kind: 'machine_lost' } },
    });
    await world.until(async () => (await world.store.getSession('dies')).status === 'failed');
    await controller.lifecycle.startSandbox('dies');
    expect(world.running('s-dies-2').inside.execs.size).toBe(0);
  });

  it('that could not start is tried again until its attempts are used up', async () => {
    const { controller } = await open('tries');
    await controller.manager.destroySandbox('tries');
    world.fly.faults.add({ kind: 'answer', action: 'machine.create', status: 400, error: 'no', times: 2 });
    await queue('tries', 'job-10', { command: 'echo at last' }, 2);
    expect(await ended('job-10')).toMatchObject({ status: 'failed', attempts: 2, started: false });
    await queue('tries', 'job-11', { command: 'echo at last' }, 2);
    expect(await ended('job-11')).toMatchObject({ status: 'succeeded', attempts: 1 });
  });

  it('is cancelled while it runs', async () => {
    const { controller } = await open('cancels');
    await queue('cancels', 'job-12', { command: 'wait' });
    const running = await exec('s-cancels-1', 'job-job-12-1');
    await world.store.cancelJob('job-12', 'test');
    controller.jobs.poke();
    expect(await ended('job-12')).toMatchObject({
      status: 'canceled',
      result: { result: { kind: 'signaled', signal: 'SIGTERM' } },
    });
    expect(running.signals).toEqual(['SIGTERM']);
  });

  it('keeps its output together over broken connections', async () => {
    await open('breaks');
    await queue('breaks', 'job-13', { command: 'wait' });
    const running = await exec('s-breaks-1', 'job-job-13-1');
    for (let n = 0; n < 3; n++) {
      running.write('stdout', `line ${n}\n`);
      const { agent } = world.running('s-breaks-1');
      const { dials } = agent;
      agent.cut();
      await world.until(() => agent.dials > dials);
    }
    running.end({ kind: 'exited', code: 0 });
    expect(await ended('job-13')).toMatchObject({ status: 'succeeded' });
    expect(await output('job-13')).toBe('line 0\nline 1\nline 2\n');
  });

  it('that was claimed by another controller is left to that one', async () => {
    const { controller } = await open('fenced');
    await queue('fenced', 'job-14', { command: 'wait' });
    const running = await exec('s-fenced-1', 'job-job-14-1');
    const { token } = await world.store.getJob('job-14');
    // The lease ends at once, as if this controller had been away for too long.
    await world.store.heartbeatJob({ id: 'job-14', token: token! }, 1);
    await world.until(async () => (await world.store.getJob('job-14')).token !== token);
    running.end({ kind: 'exited', code: 0 });
    expect(await ended('job-14')).toMatchObject({ status: 'succeeded', attempts: 1 });
    expect(world.running('s-fenced-1').inside.execs.size).toBe(1);
    await controller.jobs.shutdown();
  });
});
