import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { docker, dockerTest, useEngine, useTestImage } from './host.ts';
import { buildVariant } from './image.ts';

const image = useTestImage();
const stage = useEngine(image);
const installed = (process.env.PATH ?? '')
  .split(delimiter)
  .some((dir) => existsSync(join(dir, 'docker-registry')));

/** Debian's `docker-registry` on a loopback port, which Docker uses without TLS. Gives its address. */
async function startRegistry(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'mobvibe-registry-'));
  const port = await freePort();
  const config = {
    version: 0.1,
    log: { level: 'error' },
    storage: { filesystem: { rootdirectory: join(folder, 'data') } },
    http: { addr: `127.0.0.1:${port}` },
  };
  await writeFile(join(folder, 'config.yml'), JSON.stringify(config)); // JSON is YAML.
  const child = spawn('docker-registry', ['serve', join(folder, 'config.yml')], { stdio: 'ignore' });
  const ended = once(child, 'close');
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
    await rm(folder, { recursive: true });
  });
  await expect.poll(() => answers(port), { timeout: 20_000 }).toBe(true);
  return `127.0.0.1:${port}`;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  return once(socket, 'connect')
    .then(
      () => true,
      () => false,
    )
    .finally(() => socket.destroy());
}

async function push(tag: string): Promise<void> {
  const progress = await docker
    .getImage(tag)
    .push({ authconfig: { username: '', password: '', serveraddress: '' } });
  await new Promise<void>((resolve, reject) =>
    docker.modem.followProgress(progress, (error) => (error ? reject(error) : resolve())),
  );
}

dockerTest(
  'an image that is not here is pulled by the digest its tag had when the machine was made',
  async (context) => {
    if (!installed) context.skip('docker-registry is not installed');
    const tag = `${await startRegistry()}/mobvibe/sandbox:1`;
    await buildVariant(docker, image, tag, 'first');
    await push(tag);
    const first = await docker.getImage(tag).inspect();
    const resolved = await stage.engine.resolveImage(tag);
    expect([`${tag.replace(/:1$/, '')}@${(resolved as { digest: string }).digest}`]).toEqual(
      first.RepoDigests,
    );
    expect(await stage.engine.resolveImage(tag.replace(/:1$/, ':2'))).toEqual({
      error: expect.stringContaining('manifest unknown'),
    });

    await buildVariant(docker, image, tag, 'second');
    await push(tag);
    for (const Id of [first.Id, tag]) await docker.getImage(Id).remove({ force: true });
    const { digest } = resolved as { digest: string };
    const machine = await stage.boot({ image: tag, digest });
    onTestFinished(() => docker.getImage(first.Id).remove({ force: true }));
    expect(await machine.sh('echo "$FROM_IMAGE"')).toBe('yes');
    const pulled = await docker.getImage(`${tag.replace(/:1$/, '')}@${digest}`).inspect();
    expect([pulled.Id, pulled.Config.Labels]).toEqual([first.Id, { note: 'first' }]);
    await machine.signal('SIGKILL');
    await machine.exited;

    const unknown = `sha256:${'1'.repeat(64)}`;
    await expect(stage.boot({ image: tag, digest: unknown })).rejects.toMatchObject({
      code: 'image_not_found',
      message: expect.stringContaining(`sandbox@${unknown}`),
    });
  },
);
