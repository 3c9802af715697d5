import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, realpath, rm } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, onTestFinished } from 'vitest';
import { RUN } from '../../local/fly/docker/ownership.ts';
import { removeLabelled } from '../../local/fly/docker/removal.ts';
import { docker, dockerTest, GREEDY, ownedBy, useTestImage } from './host.ts';

const main = fileURLToPath(new URL('../../local/fly/main.ts', import.meta.url));
const token = 'fm2_test-token';
const image = useTestImage();
const guest = { memory_mb: 256 };
const config = { image, guest, restart: { policy: 'no' } };

interface LocalFly {
  child: ChildProcess;
  ended: Promise<unknown>;
  log(): string;
  // biome-ignore lint/suspicious/noExplicitAny: JSON of many shapes, looked into by the tests.
  call(method: string, path: string, body?: unknown): Promise<{ status: number; body: any }>;
  /** A machine of the app `a1`, started. Returns its path. */
  machine(name: string, more?: Record<string, unknown>): Promise<string>;
}

async function stateFolder(): Promise<string> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'mobvibe-docker-fly-')));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function startLocalFly(stateDir: string, ...more: string[]): Promise<LocalFly> {
  const args = ['--state-dir', stateDir, '--engine', 'docker', '--no-rate-limits', ...more];
  const child = spawn(process.execPath, [main, ...args], {
    env: { PATH: process.env.PATH, FLY_API_TOKEN: token },
  });
  const ended = once(child, 'close');
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  let log = '';
  child.stderr.on('data', (data) => {
    log += data;
  });
  const [line] = await Promise.race([once(createInterface({ input: child.stdout }), 'line'), ended]);
  if (typeof line !== 'string') throw new Error(`it ended before it was ready: ${log}`);
  const { url } = JSON.parse(line);
  const call: LocalFly['call'] = async (method, path, body) => {
    const headers = { authorization: `Bearer ${token}` };
    const response = await fetch(url + path, { method, headers, body: body ? JSON.stringify(body) : null });
    const text = await response.text();
    return { status: response.status, body: text ? JSON.parse(text) : undefined };
  };
  return {
    ...{ child, ended, call, log: () => log },
    async machine(name, more = {}) {
      await call('POST', '/v1/apps', { name: 'a1', network: 'net-1' });
      const { status, body } = await call('POST', '/v1/apps/a1/machines', {
        name,
        config: { ...config, ...more },
      });
      if (status !== 200) throw new Error(`create answered ${status} ${JSON.stringify(body)}`);
      const path = `/v1/apps/a1/machines/${body.id}`;
      expect((await call('GET', `${path}/wait?state=started`)).status).toBe(200);
      return path;
    },
  };
}

const exitOf = async (fly: LocalFly, path: string) => {
  const { body } = await fly.call('GET', `${path}/events`);
  return body.find(({ type }: { type: string }) => type === 'exit').request.exit_event;
};

describe('the Machines API on containers', () => {
  dockerTest('a machine is what its config says, and its policy holds', async () => {
    const fly = await startLocalFly(await stateFolder());
    await fly.call('POST', '/v1/apps', { name: 'a1', network: 'net-1' });
    const rules = [{ action: 'allow', direction: 'egress', ports: [{ protocol: 'tcp', port: 443 }] }];
    await fly.call('POST', '/v1/apps/a1/network_policies', { name: 'closed', rules });
    await fly.call('POST', '/v1/apps/a1/secrets', { values: { KEY: Buffer.from('key').toString('base64') } });
    await fly.call('POST', '/v1/apps', { name: 'ctl' });
    const created = await fly.call('POST', '/v1/apps/ctl/machines', { config });
    expect((await fly.call('GET', `/v1/apps/ctl/machines/${created.body.id}/wait`)).status).toBe(200);
    await fly.call('POST', '/v1/apps/ctl/ip_assignments', { type: 'private_v6', network: 'net-1' });

    const path = await fly.machine('all', {
      env: { A: '1' },
      init: { cmd: ['from', 'cmd'] },
      files: [{ guest_path: '/key', secret_name: 'KEY', mode: 0o400 }],
    });
    const script = `echo $A; cat /key; stat -c ' %a' /key; node -e '
      require("dns").lookup("ctl.flycast", (error, address) => console.log(error ? error.code : "flycast"));
      require("dns").lookup("example.com", (error) => console.log(error ? "cut off" : "open"));'`;
    const exec = await fly.call('POST', `${path}/exec`, { command: ['sh', '-c', script] });
    expect(exec.body).toMatchObject({ exit_code: 0, stdout: '1\nkey 400\nflycast\ncut off\n' });
    expect(fly.log()).toContain('console: from cmd');
    expect((await fly.call('POST', `${path}/exec`, { command: ['sleep', '60'], timeout: 1 })).status).toBe(
      408,
    );

    const wrong = await fly.call('POST', '/v1/apps/a1/machines', {
      config: { ...config, image: 'No image' },
    });
    expect(wrong).toEqual({
      status: 400,
      body: { error: 'invalid_argument: could not resolve image "No image": invalid reference format' },
    });
  });

  dockerTest(
    'its services answer on the app’s address, and it reaches the host’s ports that were opened',
    async () => {
      const host = createServer((socket) => socket.end('from the host'));
      await once(host.listen(0, '127.0.0.1'), 'listening');
      onTestFinished(() => void host.close());
      const { port } = host.address() as AddressInfo;
      const fly = await startLocalFly(await stateFolder(), '--host-port', String(port));
      const path = await fly.machine('one', {
        init: {
          exec: [
            '/bin/node',
            '-e',
            'require("http").createServer((q, r) => r.end("from the machine")).listen(80)',
          ],
        },
        services: [{ protocol: 'tcp', internal_port: 80, ports: [{ port: 18_081, handlers: ['http'] }] }],
      });
      const { body } = await fly.call('POST', '/v1/apps/a1/ip_assignments', { type: 'shared_v4' });
      const ask = () => fetch(`http://${body.ip}:18081`).then((response) => response.text(), String);
      await expect.poll(ask, { timeout: 20_000 }).toBe('from the machine');
      const script = `require("net").connect(${port}, "host.docker.internal").pipe(process.stdout)`;
      const { body: told } = await fly.call('POST', `${path}/exec`, { command: ['node', '-e', script] });
      expect(told, fly.log()).toMatchObject({ exit_code: 0, stdout: 'from the host' });
    },
  );

  dockerTest('a stop sends the signal of stop_config, and SIGKILL when its time is over', async () => {
    const fly = await startLocalFly(await stateFolder());
    const handler =
      'process.on("SIGTERM", () => process.exit(5)); setInterval(() => {}, 1e6); console.log("polite")';
    const polite = await fly.machine('polite', {
      init: { exec: ['/bin/node', '-e', handler] },
      stop_config: { signal: 'SIGTERM', timeout: '60s' },
    });
    const deaf = await fly.machine('deaf', {
      init: { exec: ['/bin/sh', '-c', 'trap "" TERM; echo deaf; while :; do sleep 1; done'] },
      stop_config: { signal: 'SIGTERM', timeout: '1s' },
    });
    for (const word of ['polite {', 'deaf {'])
      await expect.poll(fly.log, { timeout: 20_000 }).toContain(word);
    for (const path of [polite, deaf]) await fly.call('POST', `${path}/stop`);
    for (const path of [polite, deaf]) {
      expect((await fly.call('GET', `${path}/wait?state=stopped&timeout=60`)).status).toBe(200);
    }
    expect(await exitOf(fly, polite)).toMatchObject({ exit_code: 5, requested_stop: true });
    expect(await exitOf(fly, deaf)).toMatchObject({ exit_code: 137, oom_killed: false });
  });

  dockerTest('a machine killed for memory says so in its exit event', async () => {
    const fly = await startLocalFly(await stateFolder());
    const path = await fly.machine('greedy', {
      init: { exec: GREEDY },
    });
    expect((await fly.call('GET', `${path}/wait?state=stopped&timeout=60`)).status).toBe(200);
    expect(await exitOf(fly, path)).toMatchObject({
      exit_code: 137,
      oom_killed: true,
      requested_stop: false,
    });
  });

  dockerTest('suspend and start keep what runs', async () => {
    const fly = await startLocalFly(await stateFolder());
    const path = await fly.machine('sleepy');
    const write = await fly.call('POST', `${path}/exec`, { command: ['sh', '-c', 'echo kept > /note'] });
    expect(write.body.exit_code).toBe(0);
    await fly.call('POST', `${path}/suspend`);
    expect((await fly.call('GET', `${path}/wait?state=suspended`)).status).toBe(200);
    await fly.call('POST', `${path}/start`);
    expect((await fly.call('GET', `${path}/wait?state=started`)).status).toBe(200);
    const read = await fly.call('POST', `${path}/exec`, { command: ['cat', '/note'] });
    expect(read.body.stdout).toBe('kept\n');
  });
});

describe('nothing is left in Docker', () => {
  afterAll(async () => {
    for (const run of tetherless) await removeLabelled(docker, RUN, run);
  });
  const tetherless = new Set<string>();

  dockerTest('of a machine that was destroyed, and of an app that was deleted', async () => {
    const stateDir = await stateFolder();
    const fly = await startLocalFly(stateDir);
    const path = await fly.machine('one');
    await fly.machine('two');
    expect(await ownedBy(stateDir)).toHaveLength(4);
    await fly.call('DELETE', `${path}?force=true`);
    expect((await fly.call('GET', `${path}/wait?state=destroyed`)).status).toBe(200);
    expect(await ownedBy(stateDir)).toHaveLength(3);
    await fly.call('DELETE', '/v1/apps/a1');
    await expect.poll(() => ownedBy(stateDir), { timeout: 20_000 }).toEqual([]);
  });

  dockerTest('when local Fly ends', async () => {
    const stateDir = await stateFolder();
    const fly = await startLocalFly(stateDir);
    await fly.machine('one', { stop_config: { signal: 'SIGTERM' } });
    fly.child.kill('SIGTERM');
    await fly.ended;
    expect(await ownedBy(stateDir)).toEqual([]);
  });

  dockerTest('soon after local Fly was killed, running machines included', async () => {
    const stateDir = await stateFolder();
    const fly = await startLocalFly(stateDir);
    await fly.machine('one');
    fly.child.kill('SIGKILL');
    await fly.ended;
    await expect.poll(() => ownedBy(stateDir), { timeout: 40_000 }).toEqual([]);
  });

  dockerTest('at the next start, when the tether was killed as well', async () => {
    const stateDir = await stateFolder();
    const fly = await startLocalFly(stateDir);
    const path = await fly.machine('one');
    const [container] = await docker.listContainers({
      filters: { label: [`mobvibe.local-fly.machine=${path.split('/').at(-1)}`] },
    });
    tetherless.add(container!.Labels[RUN]!);
    process.kill(await tetherOf(fly.child.pid!), 'SIGKILL');
    fly.child.kill('SIGKILL');
    await fly.ended;
    expect(await ownedBy(stateDir)).toHaveLength(3);

    const again = await startLocalFly(stateDir);
    expect(await ownedBy(stateDir)).toEqual([]);
    expect(again.log()).toContain(
      'Removed 3 containers and networks that an earlier local Fly left in Docker',
    );
    expect(again.log()).toContain('(one, app a1) was started and died with local Fly (exit code 137)');
  });
});

/** The child that is to clean up after it. */
async function tetherOf(pid: number): Promise<number> {
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8'))
    .trim()
    .split(' ')
    .map(Number);
  for (const child of children) {
    if ((await readFile(`/proc/${child}/cmdline`, 'utf8')).includes('docker/tether.ts')) return child;
  }
  throw new Error(`process ${pid} has no tether among ${children}`);
}
