import { existsSync, readdirSync } from 'node:fs';
import { readFile, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const REMOVE_TIMEOUT_MS = 5_000;

/** Kills what is in a cgroup and below, and removes them. Throws when that takes longer than 5 s. */
export async function removeCgroup(folder: string): Promise<void> {
  const gone = async () => {
    for (const cgroup of tree(folder)) await killMembers(cgroup);
    await removeEmpty(folder);
    return !existsSync(folder);
  };
  if (!(await until(gone, REMOVE_TIMEOUT_MS))) throw new Error(`The cgroup ${folder} could not be removed`);
}

/** Removes a cgroup and those below it as far as no process is in them. */
export async function removeEmpty(folder: string): Promise<void> {
  for (const cgroup of tree(folder).reverse()) await rmdir(cgroup).catch(() => undefined);
}

async function killMembers(cgroup: string): Promise<void> {
  const pids = await readFile(join(cgroup, 'cgroup.procs'), 'utf8').catch(() => '');
  for (const pid of pids.split('\n')) {
    // 0 stands for a process that this pid namespace can't name; killing 0 would be killing oneself.
    if (!(Number(pid) > 0)) continue;
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It has just ended.
    }
  }
}

/** A cgroup and all below it, parents first. */
export function tree(folder: string): string[] {
  return existsSync(folder) ? [folder, ...below(folder).flatMap(tree)] : [];
}

/** The cgroups right below one; none when it has just been removed. */
export function below(folder: string): string[] {
  try {
    const entries = readdirSync(folder, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => join(folder, entry.name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** Looks every 5 ms; gives the last answer when the time is over. */
export async function until(condition: () => Promise<boolean>, timeoutMs: number): Promise<boolean> {
  for (const deadline = performance.now() + timeoutMs; performance.now() < deadline; await sleep(5)) {
    if (await condition()) return true;
  }
  return condition();
}
