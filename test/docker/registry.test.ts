import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { freePort } from '../../local/stack/port.ts';
import { startRegistry } from '../../local/stack/registry.ts';
import { docker, dockerTest, useEngine, useTestImage } from './host.ts';
import { buildVariant } from './image.ts';

const image = useTestImage();
const stage = useEngine(image);
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
    const folder = await mkdtemp(join(tmpdir(), 'mobvibe-registry-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const registry = await startRegistry(folder, await freePort());
    if (!registry) return context.skip('docker-registry is not installed');
    onTestFinished(() => registry.stop());
    const tag = `${registry.host}/mobvibe/sandbox:1`;
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
