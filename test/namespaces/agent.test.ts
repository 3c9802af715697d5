import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { AGENT, bundle } from '../../image/bundle.ts';
import { Rig, TOKEN, until } from '../agent/rig.ts';
import { asEveryUser, NODE, TestHost } from './every-user.ts';
import type { RemoteMachine, Wanted } from './remote-engine.ts';

const AGENT_COMMAND = [NODE, '--disable-sigusr1', '/opt/agent/agent.js'];
const FIND_AGENT = `pgrep -f '^${NODE}'`;
const code = bundle(AGENT.entry);

/** What user code does to a machine whose agent is real, and what becomes of an agent that something is done to. */
asEveryUser((host) => {
  async function withAgent(
    wanted: Wanted,
    use: (rig: Rig, machine: RemoteMachine, host: TestHost) => Promise<void>,
  ): Promise<void> {
    await using rig = await Rig.idle();
    chmodSync(rig.dir, 0o711);
    const dir = join(host().stage.dir, `agent-${TestHost.newId()}`);
    mkdirSync(dir);
    chmodSync(dir, 0o755);
    writeFileSync(join(dir, AGENT.file), code);
    const engine = await host().startEngine(`engine-${TestHost.newId()}`, {
      gatewayDir: join(rig.dir, 'ctl'),
      images: { test: { dir, entrypoint: AGENT_COMMAND } },
    });
    try {
      const machine = await engine.machine(TestHost.newId(), {
        ...wanted,
        env: {
          MOBVIBE_AGENT_DIAL_URL: 'ws+unix:/run/mobvibe/c.sock:/v1/agent',
          MOBVIBE_AGENT_TOKEN: TOKEN,
          MOBVIBE_SANDBOX: 's-test-1',
          MOBVIBE_INIT_LOOK_S: '1',
          ...wanted.env,
        },
      });
      await rig.connected();
      await use(rig, machine, host());
    } finally {
      await engine.close();
    }
  }

  const bootOf = async (rig: Rig) => (await rig.request('GET', '/health')).json().boot_id;

  /** Does something to the agent, and checks what a controller finds afterwards. */
  async function afterRestart(rig: Rig, reason: string, harm: () => Promise<unknown>): Promise<void> {
    const boot = await bootOf(rig);
    await rig.request('PUT', '/files?path=kept', 'before');
    const command = 'echo run >> runs; while :; do echo . >> ticks; sleep 0.02; done';
    const ended = (await rig.run('ended', 'echo out; exit 3')).end;
    await rig.request('PUT', '/execs/lost', { command });
    await until(async () => (await rig.request('GET', '/files?path=ticks')).status === 200);
    await harm();
    await until(() => rig.dials.length === 2);
    expect(rig.dials.map((headers) => headers['x-mobvibe-restarted'])).toEqual([undefined, reason]);
    expect(rig.dials[0]!['x-mobvibe-boot']).toBe(boot);
    // The old link may not have been seen to break yet.
    await until(async () => (await bootOf(rig).catch(() => boot)) === rig.dials[1]!['x-mobvibe-boot']);

    expect((await rig.request('GET', '/files?path=kept')).body.toString()).toBe('before');
    const lost = await rig.request('PUT', '/execs/lost', { command });
    expect([lost.status, lost.json().state, lost.json().result]).toEqual([
      200,
      'ended',
      { kind: 'machine_lost', reason },
    ]);
    const other = await rig.request('PUT', '/execs/lost', { command: 'true' });
    expect(other.json().code).toBe('exec_conflict');
    const { events } = await rig.run('ended', 'echo out; exit 3');
    expect(events.at(-1)).toEqual(ended);
    expect(events).toContainEqual({ type: 'gap', stream: 'stdout', from: 0, to: 4 });
    const { stdout } = await rig.run('after', 'cat runs; pgrep -fc "echo [.] >> ticks"');
    expect(stdout).toBe('run\n0\n');
  }

  test('an agent that is killed is started again; nothing is lost but what ran, and nothing runs twice', () =>
    withAgent({}, (rig, machine) =>
      afterRestart(rig, 'crashed', () => machine.sh(`kill -KILL $(${FIND_AGENT})`)),
    ));

  test('an agent that stands still is killed and started again', () =>
    withAgent({}, (rig, machine) =>
      afterRestart(rig, 'unresponsive', () => machine.sh(`kill -STOP $(${FIND_AGENT})`)),
    ));

  test('an agent that the kernel kills for memory is started again and told so', async ({ skip }) => {
    skip(!host().engine.report.summary.includes('memory'), 'no memory limit for a machine here');
    // In the place of an agent: something that beats, and takes too much the first time.
    const program = `echo 1 > $MOBVIBE_AGENT_STATE_DIR/heartbeat
      [ -z "$MOBVIBE_AGENT_RESTARTED" ] || { echo "why: $MOBVIBE_AGENT_RESTARTED"; exit 0; }
      exec perl -e 'push @all, "x" x 15e6 while 1'`;
    const wanted = { guest: { memory_mb: 64 }, exec: ['sh', '-c', program] };
    const machine = await host().engine.machine(TestHost.newId(), wanted);
    expect(await host().engine.printed('why:')).toBe('why: out_of_memory');
    expect((await machine.exited).exit_code).toBe(0);
  });

  test('all that user code starts goes first when memory is short', () =>
    withAgent({ guest: { memory_mb: 256 } }, async (rig, machine, { engine }) => {
      expect(
        (await rig.run('score', 'cat /proc/self/oom_score_adj; sh -c "cat /proc/self/oom_score_adj"')).stdout,
      ).toBe('500\n500\n');
      expect(await machine.sh(`cat /proc/$(${FIND_AGENT})/oom_score_adj`)).toBe('0');
      if (!engine.report.summary.includes('memory')) return;
      const boot = await bootOf(rig);
      const command = `for i in $(seq 30); do perl -e '$x = "x" x 15e6; sleep 1000' & done; wait`;
      await rig.request('PUT', '/execs/hogs', { command });
      const kills = 'cat /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null';
      await until(async () => /^oom_kill [1-9]/m.test(await machine.sh(kills)));
      expect(await bootOf(rig)).toBe(boot);
      await rig.request('POST', '/execs/hogs/signal', { signal: 'SIGKILL' });
      expect((await rig.run('after', 'echo on')).stdout).toBe('on\n');
    }));

  test('one that forks without end gets no further than its limit, and the agent goes on', () =>
    withAgent({ exec: ['/usr/bin/prlimit', '--nproc=300:300', ...AGENT_COMMAND] }, async (rig) => {
      await rig.request('PUT', '/execs/bomb', {
        command: ['perl', '-e', 'for (;;) { defined(fork) or sleep 1 }'],
      });
      let made = 0;
      const refused = async () =>
        (await rig.request('PUT', `/execs/e${made++}`, { command: ['true'] })).json().code;
      await until(async () => (await refused()) === 'too_many_processes');
      expect((await rig.request('PUT', '/files?path=f', 'x')).status).toBe(200);
      await rig.request('POST', '/execs/bomb/signal', { signal: 'SIGKILL' });
      await until(async () => (await refused()) === undefined);
      expect((await rig.run('after', 'sh -c "echo on"')).stdout).toBe('on\n');
      expect(rig.dials).toHaveLength(1);
    }));

  test('what is written to the folders for temporary files is not kept in memory', () =>
    withAgent({ guest: { memory_mb: 128 } }, async (rig, machine) => {
      const fill =
        'for dir in /tmp /var/tmp; do head -c 100000000 /dev/zero > $dir/fill || exit; done; echo filled';
      expect((await rig.run('fill', fill)).stdout).toBe('filled\n');
      expect(await machine.sh('stat -c %a /tmp /var/tmp; stat -f -c %T /tmp /var/tmp')).toMatch(
        /^1777\n1777\n(?!tmpfs)/,
      );
      expect((await rig.run('clean', 'rm /tmp/fill /var/tmp/fill && echo gone')).stdout).toBe('gone\n');
      expect(rig.dials).toHaveLength(1);
    }));
});
