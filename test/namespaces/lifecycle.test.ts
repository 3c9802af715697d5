import { mkdirSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { asEveryUser, NODE, TestHost } from './every-user.ts';
import { asUser } from './user-code.ts';

asEveryUser((host, kind) => {
  test('says how machines run and what they lack', () => {
    const { summary, lacks } = host().engine.report;
    if (kind === undefined) expect(summary).toMatch(/as root|as an ordinary user/);
    if (kind === 'subuid') expect(summary).toContain('range of ids in /etc/subuid');
    if (kind === 'single') expect(summary).toContain('without a range');
    expect(lacks.join('\n')).toContain('no limit on the disk space');
    if (!summary.includes('memory'))
      expect(lacks.join('\n')).toContain('no memory limit for a machine as a whole');
  });

  test('resolves the images that it was given, and no other', async () => {
    expect(await host().engine.call('resolveImage', '', 'test')).toEqual({
      digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
    });
    expect(await host().engine.call('resolveImage', '', 'other:1')).toEqual({
      error: 'no image "other:1"; there are: test',
    });
  });

  test('a machine that is started again has fresh folders', async () => {
    const id = TestHost.newId();
    const first = await host().engine.machine(id);
    await asUser(first, 'echo mine > /workspace/file');
    await first.signal('SIGKILL');
    await first.exited;
    const second = await host().engine.machine(id);
    expect(await second.sh('ls -A /workspace')).toBe('');
    await second.signal('SIGKILL');
    await second.exited;
    await host().engine.call('discard', id);
    expect(readdirSync(host().stateDir('machines'))).not.toContain(id);
  });

  test.each([
    { what: 'its own code', exec: ['sh', '-c', 'exit 7'], signal: '', exit: { exit_code: 7, signal: null } },
    {
      what: 'SIGTERM',
      exec: ['sleep', '99'],
      signal: 'SIGTERM',
      exit: { exit_code: 143, signal: 'SIGTERM' },
    },
    { what: 'SIGINT', exec: ['sleep', '99'], signal: 'SIGINT', exit: { exit_code: 130, signal: 'SIGINT' } },
    {
      what: 'SIGKILL',
      exec: ['sleep', '99'],
      signal: 'SIGKILL',
      exit: { exit_code: 137, signal: 'SIGKILL' },
    },
    { what: 'a missing program', exec: ['/no/such'], signal: '', exit: { exit_code: 127, signal: null } },
  ])('reports an end by $what', async ({ exec, signal, exit }) => {
    const machine = await host().engine.machine(TestHost.newId(), { exec });
    if (signal) await machine.signal(signal);
    expect(await machine.exited).toEqual({ ...exit, oom_killed: false });
    await expect(machine.exec(['true'])).rejects.toMatchObject({ code: 'not_running' });
  });

  test('passes a signal on to a program that handles it, and gives its code', async () => {
    const exec = ['sh', '-c', 'trap "exit 9" TERM; echo trapped; while :; do sleep 0.01; done'];
    const machine = await host().engine.machine(TestHost.newId(), { exec });
    await host().engine.printed('trapped');
    await machine.signal('SIGTERM');
    expect((await machine.exited).exit_code).toBe(9);
  });

  test('gives the program its environment, with odd values and nothing of the host', async () => {
    const env = { FLY_MACHINE_ID: 'abc', ODD: `it's "two"\nlines $HOME \`id\`` };
    const exec = [
      NODE,
      '-e',
      'console.log("env " + JSON.stringify(process.env)); setInterval(() => {}, 1000)',
    ];
    await host().withMachine({ env, exec }, async () => {
      const line = await host().engine.printed('"FLY_MACHINE_ID"');
      const { PWD, OLDPWD, NODE_OPTIONS, ...seen } = JSON.parse(line.slice(4));
      expect(seen).toEqual({
        ...env,
        HOME: '/root',
        PATH: '/opt/node/bin:/usr/local/bin:/usr/bin:/bin',
        MOBVIBE_AGENT_USER: kind === 'single' ? 'nested' : seen.MOBVIBE_AGENT_USER,
        MOBVIBE_AGENT_STATE_DIR: '/var/lib/mobvibe',
      });
    });
  });

  test('orphans are reaped', async () => {
    const machine = host().idle;
    await machine.sh('for i in 1 2 3 4 5 6 7 8 9 10; do (true &) ; done');
    const zombies = 'grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null | wc -l';
    expect(await machine.sh(`until [ "$(${zombies})" = 0 ]; do :; done; ${zombies}`)).toBe('0');
  });

  test('exec gives input, output, code and signal', async () => {
    const machine = host().idle;
    const result = await machine.exec(['sh', '-c', 'cat; echo problem >&2; exit 9'], { stdin: 'héllo' });
    expect(result).toEqual({ exit_code: 9, exit_signal: 0, stdout: 'héllo', stderr: 'problem\n' });
    expect(await machine.exec(['sh', '-c', 'kill -9 $$'])).toMatchObject({
      exit_code: 137,
      exit_signal: 9,
    });
    expect((await machine.exec(['sh', '-c', 'yes | head -c 3000000'])).stdout.length).toBe(1024 * 1024);
    expect(await machine.sh('readlink /proc/self/ns/pid; readlink /proc/1/ns/pid')).toMatch(/^(.+)\n\1$/);
  });

  test('an exec is killed at its deadline with all that it has started', async () => {
    const machine = host().idle;
    const command = ['sh', '-c', 'setsid sleep 9871 & (setsid sleep 9872 &) ; sleep 9873'];
    await expect(machine.exec(command, { timeoutMs: 300 })).rejects.toMatchObject({ code: 'exec_timeout' });
    expect(await machine.sh('cat /proc/[0-9]*/cmdline | tr "\\0" " "')).not.toContain('sleep 987');
  });

  test('a suspended machine stands still, takes no exec, and goes on', async () => {
    const exec = ['sh', '-c', 'while :; do echo $((n += 1)) > /workspace/n; sleep 0.005; done'];
    await host().withMachine({ exec }, async (machine) => {
      const count = async () =>
        Number(await machine.sh('until [ -s /workspace/n ]; do :; done; cat /workspace/n'));
      await count();
      await machine.suspend();
      await expect(machine.exec(['true'])).rejects.toMatchObject({ code: 'not_running' });
      const file = join(host().stateDir('machines'), machine.id, 'workspace/n');
      const before = readFileSync(file, 'utf8');
      // Time for a running machine to count on.
      for (let i = 0; i < 5; i++) await host().idle.sh('sleep 0.005');
      expect(readFileSync(file, 'utf8')).toBe(before);
      await machine.resume();
      await machine.sh(`until [ "$(cat /workspace/n)" -gt ${Number(before)} ] 2>/dev/null; do :; done`);
    });
  });

  test('a resume that comes while a machine is being suspended wins', () =>
    host().withMachine({}, async (machine) => {
      const suspending = machine.suspend();
      await machine.resume();
      await suspending;
      expect(await machine.sh('echo on')).toBe('on');
      expect(await machine.sh('grep -l "^State:.T" /proc/[0-9]*/status')).toBe('');
    }));

  test('a suspended machine can be killed', async () => {
    const machine = await host().engine.machine(TestHost.newId());
    await machine.suspend();
    await machine.signal('SIGKILL');
    expect((await machine.exited).exit_code).toBe(137);
  });

  test('a machine that takes too much memory is stopped', async () => {
    const hog = `const all = []; for (;;) all.push(Buffer.alloc(16 << 20, 1))`;
    const machine = await host().engine.machine(TestHost.newId(), {
      exec: [NODE, '-e', hog],
      guest: { memory_mb: 256 },
    });
    const exit = await machine.exited;
    if (host().engine.report.summary.includes('memory')) {
      expect(exit).toEqual({ exit_code: 137, signal: 'SIGKILL', oom_killed: true });
    } else {
      expect(exit.exit_code).not.toBe(0);
      expect(exit.oom_killed).toBe(false);
    }
  });

  test('Node in a machine knows how much memory and how many processes there may be', () =>
    host().withMachine({ guest: { memory_mb: 256 } }, async (machine) => {
      const heapMb = `require('v8').getHeapStatistics().heap_size_limit / 2 ** 20`;
      expect(Number(await machine.sh(`${NODE} -p "${heapMb}"`))).toBeLessThan(512);
      if (host().engine.report.summary.includes('memory')) {
        expect(await machine.sh(`${NODE} -p "process.constrainedMemory() / 2 ** 20"`)).toBe('256');
      }
      if (!host().engine.report.summary.includes('pids')) {
        expect(await machine.sh('grep "Max processes" /proc/1/limits')).toMatch(/ 2048 /);
      }
    }));

  test('says in the words of the tool why a machine did not boot', async () => {
    const dir = join(host().stage.dir, 'state/fleeting');
    mkdirSync(dir);
    const failing = await host().startEngine('failing', { images: { test: { dir, entrypoint: ['true'] } } });
    await failing.call('resolveImage', '', 'test');
    rmdirSync(dir);
    await expect(failing.machine(TestHost.newId())).rejects.toMatchObject({
      code: 'boot_failed',
      message: expect.stringMatching(/mount: .*opt\/agent.*fleeting/s),
    });
    await failing.close();
  });

  test.each([{ id: '../x' }, { id: '' }, { id: 'A' }])('refuses the id "$id"', async ({ id }) => {
    await expect(host().engine.machine(id)).rejects.toThrow(`id: "${id}"`);
    await expect(host().engine.call('discard', id)).rejects.toThrow(`id: "${id}"`);
  });

  test('refuses a variable that cannot be exported, an unknown image, signal, and a second start', () =>
    host().withMachine({}, async (machine) => {
      await expect(host().engine.machine(TestHost.newId(), { env: { 'A-B': '' } })).rejects.toThrow('"A-B"');
      await expect(host().engine.machine(TestHost.newId(), { image: 'x' })).rejects.toMatchObject({
        code: 'image_not_found',
      });
      await expect(machine.signal('SIGX')).rejects.toThrow('"SIGX"');
      await expect(host().engine.machine(machine.id)).rejects.toThrow(`${machine.id} runs already`);
      await expect(host().engine.call('discard', machine.id)).rejects.toThrow('runs');
    }));
});
