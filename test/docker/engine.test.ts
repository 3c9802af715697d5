import { describe, expect, onTestFinished } from 'vitest';
import { MACHINE } from '../../local/fly/docker/ownership.ts';
import { docker, dockerTest, GREEDY, newId, useEngine, useTestImage } from './host.ts';
import { buildVariant } from './image.ts';

const image = useTestImage();
const stage = useEngine(image);

describe('what boots', () => {
  dockerTest(
    "is the image's own entry point, with the image's command and what it writes on the log",
    async () => {
      const machine = await stage.boot();
      await expect.poll(() => stage.log).toContain("console: the image's command");
      expect(await machine.sh('cat /proc/1/cmdline')).toContain('docker-init');
    },
  );

  dockerTest('may be another command, or all of it another', async () => {
    await stage.boot({ cmd: ['my', 'words'] });
    await expect.poll(() => stage.log).toContain('console: my words');
    const other = await stage.boot({ exec: ['/bin/sh', '-c', 'exit 7'] });
    expect(await other.exited).toEqual({ exit_code: 7, signal: null, oom_killed: false });
  });

  dockerTest('finds its environment, its name and its files', async () => {
    const id = newId();
    const files = [
      { path: '/etc/deep/one', content: Buffer.from('first\n') },
      { path: '/two', content: Buffer.from([0, 255]), mode: 0o640 },
    ];
    const machine = await stage.boot({ id, env: { GREETING: 'a b\nc="$d"' }, files });
    expect(await machine.sh('echo "$GREETING|$FROM_IMAGE"')).toBe('a b\nc="$d"|yes');
    expect(await machine.sh('cat /etc/hostname /etc/deep/one; stat -c %a /etc/deep/one /two')).toBe(
      `${id}\nfirst\n644\n640`,
    );
    expect(await machine.sh('node -p \'fs.readFileSync("/two").toString("hex")\'')).toBe('00ff');
  });

  dockerTest('starts from the image again at every boot', async () => {
    const id = newId();
    const first = await stage.boot({ id });
    await first.sh('echo mine > /left; echo broken > /etc/passwd');
    await first.signal('SIGKILL');
    await first.exited;
    const second = await stage.boot({ id });
    expect(await second.sh('stat -c %n /left 2>/dev/null; cat /etc/passwd')).toBe('root:x:0:0::/:/bin/sh');
  });

  dockerTest('is the image that was resolved, wherever its tag has moved since', async () => {
    const tag = `${image.split(':')[0]}:moving`;
    onTestFinished(() => docker.getImage(tag).remove({ force: true }));
    await buildVariant(docker, image, tag, 'old');
    const old = await docker.getImage(tag).inspect();
    const resolved = await stage.engine.resolveImage(tag);
    await buildVariant(docker, image, tag, 'new');
    onTestFinished(() => docker.getImage(old.Id).remove({ force: true }));
    expect(resolved).toEqual({ digest: old.Id });
    const machine = await stage.boot({ image: tag, digest: old.Id });
    expect((await containerOf(machine.id))?.ImageID).toBe(old.Id);
    await machine.signal('SIGKILL');
    await machine.exited;
  });

  dockerTest('must exist: the registry says what is wrong with a reference', async () => {
    for (const wrong of ['No Such:image', '../containers/json?a=', 'a/../b', 'a@sha256:1', '']) {
      expect(await stage.engine.resolveImage(wrong), wrong).toEqual({ error: 'invalid reference format' });
    }
    const nowhere = await stage.engine.resolveImage('127.0.0.1:1/sandbox:1');
    expect(nowhere).toEqual({ error: expect.stringContaining('connection refused') });
    const digest = `sha256:${'0'.repeat(64)}`;
    await expect(stage.boot({ image: '127.0.0.1:1/sandbox:1', digest })).rejects.toMatchObject({
      code: 'image_not_found',
      message: expect.stringContaining(`127.0.0.1:1/sandbox@${digest}`),
    });
  });
});

describe('limits', () => {
  dockerTest('of memory, CPU and processes are those of the guest', async () => {
    const machine = await stage.boot({ guest: { memory_mb: 512 } });
    const read = (v2: string, v1: string) =>
      machine.sh(`cat /sys/fs/cgroup/${v2} 2>/dev/null || cat /sys/fs/cgroup/${v1}`);
    expect(await read('memory.max', 'memory/memory.limit_in_bytes')).toBe(String(512 * 1024 * 1024));
    const cpu = await read('cpu.max', 'cpu/cpu.cfs_quota_us');
    expect(cpu.split(' ')[0]).toBe('100000');
    expect(await read('pids.max', 'pids/pids.max')).toBe('2048');
  });

  dockerTest('more CPUs than Docker has are as many as it has', async () => {
    const machine = await stage.boot({ guest: { cpus: 16 } });
    expect(await machine.sh('echo up')).toBe('up');
  });

  dockerTest('a machine that wants more memory than it has is killed, and that is told', async () => {
    const machine = await stage.boot({ exec: GREEDY });
    expect(await machine.exited).toEqual({ exit_code: 137, signal: 'SIGKILL', oom_killed: true });
  });
});

describe('exec', () => {
  dockerTest('gives output, exit code and signal apart, and takes input', async () => {
    const machine = await stage.boot();
    const run = (script: string, stdin?: string) =>
      machine.exec({ command: ['/bin/sh', '-c', script], stdin, timeoutMs: 30_000 });
    expect(await run('id -u; cat; echo oops >&2; exit 3', 'input')).toEqual({
      ...{ exit_code: 3, exit_signal: 0, stdout: '0\ninput', stderr: 'oops\n' },
    });
    expect(await run('kill -9 $$')).toMatchObject({ exit_code: 137, exit_signal: 9 });
    expect(await run('cat', 'x'.repeat(300_000))).toMatchObject({ stdout: 'x'.repeat(300_000) });
    const unknown = await machine.exec({ command: ['no-such-program'], timeoutMs: 30_000 });
    expect(unknown).toMatchObject({ exit_code: expect.not.toBeOneOf([0]) });
  });

  dockerTest('kills at its deadline whatever it has started', async () => {
    const machine = await stage.boot();
    const command = [
      'node',
      '-e',
      `
      const { spawn } = require("child_process");
      spawn("sleep", ["501"], { detached: true, stdio: "ignore" });
      spawn("sleep", ["502"]);`,
    ];
    await expect(machine.exec({ command, timeoutMs: 2_000 })).rejects.toMatchObject({ code: 'exec_timeout' });
    const processes = await machine.sh('cat /proc/[0-9]*/cmdline');
    expect(processes).toContain('600'); // The machine itself goes on.
    expect(processes).not.toMatch(/50[12]/);
  });

  dockerTest('says so when the machine is suspended or has ended', async () => {
    const machine = await stage.boot();
    const tryIt = () => machine.exec({ command: ['true'], timeoutMs: 10_000 });
    await machine.suspend!();
    await expect(tryIt()).rejects.toMatchObject({ code: 'not_running' });
    await machine.resume!();
    expect(await machine.sh('echo back')).toBe('back');
    await machine.signal('SIGKILL');
    await machine.exited;
    await expect(tryIt()).rejects.toMatchObject({ code: 'not_running' });
    await expect(machine.signal('SIGTERM')).rejects.toMatchObject({ code: 'not_running' });
  });
});

describe('checks', () => {
  dockerTest(
    'pass when the program answers, by TCP or HTTP, and tell what is wrong when it does not',
    async () => {
      const program = `
      const http = require("http");
      http.createServer((request, response) => {
        response.statusCode = request.url === "/good" ? 200 : 503;
        response.end();
      }).listen(8080);`;
      const http = (path: string) => ({ type: 'http' as const, port: 8080, path });
      const checks = { good: http('/good'), bad: http('/'), tcp: { type: 'tcp' as const, port: 8080 } };
      const closed = { closed: { type: 'tcp' as const, port: 9, interval: '200ms' } };
      const machine = await stage.boot({
        exec: ['/bin/node', '-e', program],
        checks: { ...checks, ...closed },
      });
      const status = () =>
        machine.checks!()
          .map(({ name, status, output }) => `${name} ${status} ${output}`)
          .sort();
      await expect
        .poll(status, { timeout: 20_000 })
        .toEqual([
          'bad critical 503 Service Unavailable',
          expect.stringMatching(/^closed critical .*ECONNREFUSED/),
          'good passing 200 OK',
          'tcp passing Success',
        ]);
      const hidden = await stage.boot({ checks, network: { deniesEgress: true } });
      expect(hidden.checks!().map(({ output }) => output)).toEqual(
        Array(3).fill(expect.stringContaining('does not reach the machine')),
      );
    },
  );
});

describe('the end', () => {
  dockerTest('by a signal that the program does not handle', async () => {
    const machine = await stage.boot({ exec: ['/bin/sleep', '600'] });
    await machine.signal('SIGTERM');
    expect(await machine.exited).toEqual({ exit_code: 143, signal: 'SIGTERM', oom_killed: false });
  });

  dockerTest('by the program itself, when it handles the signal', async () => {
    const program =
      'process.on("SIGINT", () => process.exit(4)); setInterval(() => {}, 1e6); console.log("armed")';
    const machine = await stage.boot({ exec: ['/bin/node', '-e', program] });
    await expect.poll(() => stage.log, { timeout: 20_000 }).toContain('armed');
    await machine.signal('SIGINT');
    expect(await machine.exited).toEqual({ exit_code: 4, signal: null, oom_killed: false });
  });

  dockerTest('of a suspended machine comes by SIGKILL', async () => {
    const machine = await stage.boot();
    await machine.suspend!();
    await machine.signal('SIGKILL');
    expect(await machine.exited).toEqual({ exit_code: 137, signal: 'SIGKILL', oom_killed: false });
  });

  dockerTest('is noticed, too, when somebody else removes the container', async () => {
    const machine = await stage.boot();
    await docker.getContainer((await containerOf(machine.id))!.Id).remove({ force: true });
    expect(await machine.exited).toMatchObject({ exit_code: 137 });
  });

  dockerTest('a boot that fails leaves no container', async () => {
    const id = newId();
    const files = [{ path: '/bin/sh/no-folder', content: Buffer.from('') }];
    await expect(stage.boot({ id, files })).rejects.toMatchObject({ code: 'boot_failed' });
    expect(await containerOf(id)).toBeUndefined();
  });
});

async function containerOf(machineId: string) {
  const filters = { label: [`${MACHINE}=${machineId}`] };
  return (await docker.listContainers({ all: true, filters }))[0];
}
