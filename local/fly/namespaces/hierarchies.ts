import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';
import { below, removeCgroup, removeEmpty } from './cgroup-tree.ts';

/** Processes and threads of a machine together. Node starts with 11. */
export const PIDS_MAX = 2048;

const CPU_PERIOD_US = 100_000;

export type Controller = 'memory' | 'cpu' | 'pids';

/** A folder of the cgroup file system below which machines get their cgroups. */
export interface Hierarchy {
  version: 1 | 2;
  /** Which of the limits it can set. Empty for a v2 tree without controllers; that still can freeze. */
  controllers: Controller[];
  /** `<own cgroup>/mobvibe-<hash of the state folder>-<pid of the engine>`. */
  folder: string;
}

export interface Limits {
  memoryMb: number;
  cpus: number;
  pids: number;
}

/**
 * Makes a cgroup for all machines in each cgroup file system where this process may. Whatever a former run with the same
 * state folder has left there is killed and removed first; empty cgroups of other engines that were killed are removed.
 */
export async function openHierarchies(stateDir: string): Promise<Hierarchy[]> {
  const mounts = cgroupMounts(
    readFileSync('/proc/self/mountinfo', 'utf8'),
    readFileSync('/proc/self/cgroup', 'utf8'),
  );
  const found: Hierarchy[] = [];
  for (const mount of mounts) {
    const folder = join(mount.parent, `${cgroupName(stateDir)}-${process.pid}`);
    try {
      await removeLeftovers(mount.parent, cgroupName(stateDir));
      await mkdir(folder);
      const controllers = mount.version === 1 ? mount.controllers : await enableV2(mount.parent, folder);
      found.push({ version: mount.version, controllers, folder });
    } catch {
      // Not ours to write; the report names the limits that no hierarchy sets.
    }
  }
  return found;
}

async function removeLeftovers(parent: string, own: string): Promise<void> {
  for (const folder of below(parent)) {
    const [name, pid] = /^(mobvibe-[0-9a-f]{8})-(\d+)$/.exec(basename(folder))?.slice(1) ?? [];
    if (name === own) await removeCgroup(folder);
    // Removing a cgroup that still has processes fails, so no machine comes to harm.
    else if (pid && !existsSync(`/proc/${pid}`)) await removeEmpty(folder);
  }
}

/** Pure: how the name of the cgroup for all machines kept in `stateDir` begins; the engine's pid follows. */
export function cgroupName(stateDir: string): string {
  return `mobvibe-${createHash('sha256').update(stateDir).digest('hex').slice(0, 8)}`;
}

interface CgroupMount {
  version: 1 | 2;
  controllers: Controller[];
  /** Where cgroups for machines may be made. */
  parent: string;
}

/**
 * Pure: which cgroup mounts matter. A v1 hierarchy is used below the cgroup that this process is in. In v2 a cgroup with
 * processes can't hand controllers on, so the root of the tree is used.
 */
export function cgroupMounts(mountinfo: string, selfCgroup: string): CgroupMount[] {
  const own = new Map(
    selfCgroup.split('\n').flatMap((line) => {
      const [, names, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
      return names === undefined || path === undefined
        ? []
        : names.split(',').map((name) => [name, path] as const);
    }),
  );
  return mountinfo.split('\n').flatMap((line): CgroupMount[] => {
    const fields = line.split(' ');
    const [root, at] = [fields[3], fields[4]];
    const [type, , options] = fields.slice(fields.indexOf('-') + 1);
    if (!root || !at) return [];
    if (type === 'cgroup2') return [{ version: 2, controllers: [], parent: at }];
    if (type !== 'cgroup') return [];
    const controllers = (['memory', 'cpu', 'pids'] as const).filter((name) =>
      options?.split(',').includes(name),
    );
    const path = controllers[0] && own.get(controllers[0]);
    if (path === undefined) return [];
    const inner = relative(root, path);
    return [{ version: 1, controllers, parent: join(at, inner.startsWith('..') ? '' : inner) }];
  });
}

async function enableV2(parent: string, folder: string): Promise<Controller[]> {
  const wanted: Controller[] = ['memory', 'cpu', 'pids'];
  const enabled: Controller[] = [];
  for (const name of wanted) {
    try {
      await writeFile(join(parent, 'cgroup.subtree_control'), `+${name}`);
      await writeFile(join(folder, 'cgroup.subtree_control'), `+${name}`);
      enabled.push(name);
    } catch {
      // Not a controller of this tree.
    }
  }
  return enabled;
}

/** What the hierarchies limit, taken together. */
export function limitedBy(hierarchies: Hierarchy[]): Set<Controller> {
  return new Set(hierarchies.flatMap(({ controllers }) => controllers));
}

/** Removes the hierarchies' own folders with all that is in them. */
export async function removeHierarchies(hierarchies: Hierarchy[]): Promise<void> {
  for (const { folder } of hierarchies) await removeCgroup(folder);
}

/** Pure: files and values that set `limits` in a hierarchy. A file that the kernel lacks (swap accounting) is passed over. */
export function limitFiles(
  { version, controllers }: Hierarchy,
  limits: Limits,
): [file: string, value: string][] {
  const bytes = String(limits.memoryMb * 1024 * 1024);
  const quota = String(limits.cpus * CPU_PERIOD_US);
  const v1: Record<Controller, [string, string][]> = {
    memory: [
      ['memory.limit_in_bytes', bytes],
      ['memory.memsw.limit_in_bytes', bytes],
    ],
    cpu: [
      ['cpu.cfs_period_us', String(CPU_PERIOD_US)],
      ['cpu.cfs_quota_us', quota],
    ],
    pids: [['pids.max', String(limits.pids)]],
  };
  const v2: Record<Controller, [string, string][]> = {
    memory: [
      ['memory.max', bytes],
      ['memory.swap.max', '0'],
    ],
    cpu: [['cpu.max', `${quota} ${CPU_PERIOD_US}`]],
    pids: [['pids.max', String(limits.pids)]],
  };
  return controllers.flatMap((name) => (version === 1 ? v1 : v2)[name]);
}
