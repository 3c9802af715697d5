import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { leftovers, namespacesBelow, ticksNow } from '../../local/demo/leftovers.ts';

/** A process in a user, pid and mount namespace of its own, that names a folder; null where the host refuses. */
async function stranger(folder: string) {
  const child = spawn('unshare', ['-Urmpf', '--kill-child', 'sh', '-c', `echo up; sleep 60; : ${folder}`], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  child.once('error', () => {});
  const up = await Promise.race([
    once(child.stdout, 'data').then(() => true),
    once(child.stdout, 'close').then(() => false),
  ]);
  return up ? child : null;
}

test('a process that is left is found by its namespace and by the folder that it names, until it is gone', async (ctx) => {
  const folder = await mkdtemp(join(tmpdir(), 'mobvibe-left-'));
  // A name that nobody on this host says but this test.
  const nowhere = join(tmpdir(), `mobvibe-nowhere-${randomUUID()}`);
  const child = await stranger(folder);
  if (child === null) return ctx.skip('this host has no user namespaces');
  try {
    const namespaces = namespacesBelow(child.pid!);
    expect(namespaces.size).toBeGreaterThanOrEqual(3);
    expect(leftovers(namespaces, nowhere, ticksNow() + 100).processes.length).toBeGreaterThan(0);
    expect(leftovers(new Set(), folder, ticksNow() + 100)).toMatchObject({ folders: [folder] });
    expect(leftovers(new Set(), folder, ticksNow() + 100).processes.join()).toContain('unshare');
    // Younger than the end that is asked about: somebody else's, in a namespace whose number came free.
    expect(leftovers(namespaces, nowhere, 0).processes).toEqual([]);

    child.kill('SIGKILL');
    await once(child, 'exit');
    await rm(folder, { recursive: true });
    await expect
      .poll(() => leftovers(namespaces, folder, ticksNow() + 100))
      .toEqual({ processes: [], mounts: [], folders: [] });
  } finally {
    child.kill('SIGKILL');
    await rm(folder, { recursive: true, force: true });
  }
});
