import { once } from 'node:events';
import { chmod, chown, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { connectDocker, type DockerInfo } from '../../local/fly/docker/client.ts';
import { createDockerEngine } from '../../local/fly/docker/index.ts';
import { describeDocker } from '../../local/fly/docker/report.ts';

/** What plays Docker on a socket, as far as `GET /version`. */
async function socketOf(version: object | undefined): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'mobvibe-docker-'));
  const path = join(folder, 'docker.sock');
  const server = createServer((_request, response) => {
    response.writeHead(version ? 200 : 500, { 'content-type': 'application/json' });
    response.end(JSON.stringify(version ?? { message: 'it is broken' }));
  }).listen(path);
  onTestFinished(async () => {
    server.close();
    await rm(folder, { recursive: true });
  });
  await once(server, 'listening');
  return path;
}

const failure = (path: string) =>
  connectDocker(path).then(
    () => undefined,
    ({ code, message }) => ({ code, message }),
  );
const unsupported = (words: string) => ({
  code: 'unsupported_host',
  message: expect.stringContaining(words),
});

test('no socket, or something else in its place, is named with what to do', async () => {
  const missing = '/no/such/docker.sock';
  expect(await failure(missing)).toEqual(unsupported(`There is no Docker socket at ${missing}. Install`));
  const engine = createDockerEngine({ stateDir: '/no/such', socketPath: missing, log: () => {} });
  await expect(engine).rejects.toMatchObject(unsupported(missing));
  expect(await failure('/etc/passwd')).toEqual(unsupported('/etc/passwd is no socket'));
});

test('a socket that this user may not use', async (context) => {
  if (process.getuid?.() !== 0) context.skip('only root can make a socket of another user');
  const path = await socketOf({});
  await chmod(path, 0o600);
  await chown(path, 65_534, 65_534);
  await chmod(join(path, '..'), 0o755);
  process.seteuid!(65_533);
  try {
    expect(await failure(path)).toEqual(unsupported(`may not use the Docker socket ${path}`));
  } finally {
    process.seteuid!(0);
  }
});

test('a Docker that does not answer, that fails, that is too old, or that runs no Linux', async () => {
  const left = join(await mkdtemp(join(tmpdir(), 'mobvibe-docker-')), 'left.sock');
  await writeFile(left, '');
  expect(await failure(left)).toEqual(unsupported('is no socket'));
  expect(await failure(await socketOf(undefined))).toEqual(
    unsupported('(it is broken). Is dockerd running?'),
  );
  const old = { ApiVersion: '1.40', Os: 'linux', Version: '19.03' };
  expect(await failure(await socketOf(old))).toEqual(unsupported('Docker 19.03'));
  const windows = { ApiVersion: '1.41', Os: 'windows', Version: '20.10' };
  expect(await failure(await socketOf(windows))).toEqual(unsupported('windows containers'));
});

test('the report tells what the kernel lacks, and nothing of what it has', () => {
  const info: DockerInfo = {
    ...{
      ServerVersion: '20.10',
      OperatingSystem: 'Linux',
      Driver: 'overlay2',
      NCPU: 2,
      InitBinary: 'docker-init',
    },
    ...{ MemoryLimit: true, SwapLimit: true, CpuCfsQuota: true, PidsLimit: true, IPv4Forwarding: true },
  };
  const full = describeDocker(info, '/socket').lacks;
  const poor = describeDocker({ ...info, MemoryLimit: false, PidsLimit: false }, '/socket').lacks;
  expect(poor.filter((sentence) => !full.includes(sentence))).toEqual([
    expect.stringContaining('no memory limit'),
    expect.stringContaining('no limit on processes'),
  ]);
});
