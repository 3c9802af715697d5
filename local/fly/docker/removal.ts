import { setTimeout as sleep } from 'node:timers/promises';
import type Docker from 'dockerode';
import { statusOf } from './client.ts';
import { labelFilter } from './ownership.ts';

const LOOKS = 60;
const LOOK_EVERY_MS = 500;

/**
 * Removes every container, running or not, and every network with this label, and looks again until `emptyLooks` looks in a row found
 * none: a call of a process that was killed may still be under way in Docker. Rejects, naming what remains, after half a minute.
 */
export async function removeLabelled(
  docker: Docker,
  label: string,
  value: string,
  { emptyLooks = 1 } = {},
): Promise<number> {
  const filters = labelFilter(label, value);
  let removed = 0;
  let empty = 0;
  let remains: string[] = [];
  for (let look = 0; look < LOOKS; look++) {
    const containers = await docker.listContainers({ all: true, filters });
    const networks = await docker.listNetworks({ filters });
    if (containers.length + networks.length === 0 && ++empty >= emptyLooks) return removed;
    const results = await Promise.allSettled(containers.map(({ Id }) => removeContainer(docker, Id)));
    results.push(...(await Promise.allSettled(networks.map(({ Id }) => removeNetwork(docker, Id)))));
    removed += results.filter(({ status }) => status === 'fulfilled').length;
    remains = results.flatMap((result) => (result.status === 'rejected' ? [String(result.reason)] : []));
    if (containers.length + networks.length === 0 || remains.length > 0) await sleep(LOOK_EVERY_MS);
  }
  throw new Error(
    `What an earlier local Fly left in Docker (label ${label}=${value}) can't be removed: ${remains}`,
  );
}

/** Kills it if it runs. Resolves when it is gone, whoever removed it. */
export async function removeContainer(docker: Docker, id: string): Promise<void> {
  const container = docker.getContainer(id);
  try {
    await container.remove({ force: true, v: true });
  } catch (error) {
    if (statusOf(error) === 404) return;
    if (statusOf(error) !== 409) throw error;
    // Somebody else's removal is in progress.
    await container.wait({ condition: 'removed' }).catch((gone) => {
      if (statusOf(gone) !== 404) throw gone;
    });
  }
}

/** Disconnects whatever is still on it. Resolves when it is gone, whoever removed it. */
export async function removeNetwork(docker: Docker, id: string): Promise<void> {
  const network = docker.getNetwork(id);
  try {
    const { Containers } = await network.inspect();
    // By name: the endpoint of a container that is gone has no id that Docker would take.
    for (const { Name } of Object.values(Containers ?? {})) {
      await network.disconnect({ Container: Name, Force: true }).catch(() => undefined); // The removal tells.
    }
    await network.remove();
  } catch (error) {
    if (statusOf(error) !== 404) throw error;
  }
}
