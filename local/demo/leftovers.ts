import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';

const NAMESPACES = ['pid', 'mnt', 'net', 'user'] as const;

/** The namespaces of machines, noted while they run: `pid:[4026532…]` and the like. */
export type NamespaceIds = ReadonlySet<string>;

/** The namespaces of every descendant of `pid` that are not our own. */
export function namespacesBelow(pid: number): NamespaceIds {
  const own = new Set(NAMESPACES.map((kind) => namespaceOf('self', kind)));
  const found = new Set<string>();
  for (const child of descendants(pid)) {
    for (const kind of NAMESPACES) {
      const id = namespaceOf(child, kind);
      if (id !== undefined && !own.has(id)) found.add(id);
    }
  }
  return found;
}

export interface Leftovers {
  processes: string[];
  mounts: string[];
  folders: string[];
}

/** Ticks of the kernel's clock since boot: what `/proc/PID/stat` says of a process's start. */
export function ticksNow(): number {
  // A tick is 1/100 s for user space on every architecture that Node runs on (proc(5), sysconf(_SC_CLK_TCK)).
  return Number(read('/proc/uptime').split(' ')[0]) * 100;
}

/**
 * What is left on this host of machines that were over at `endedAt` (in ticks): living processes inside one of their namespaces (a
 * namespace lives as long as a process or a mount holds it), processes or mounts that name the folder, and the folder itself. A
 * process that is younger belongs to somebody else: the kernel gives a namespace's number away again at once.
 */
export function leftovers(namespaces: NamespaceIds, folder: string, endedAt: number): Leftovers {
  const processes: string[] = [];
  for (const pid of allPids()) {
    if (pid === process.pid || isZombie(pid)) continue;
    const older = Number(statFields(pid)[19]) <= endedAt;
    const inside = older && NAMESPACES.some((kind) => namespaces.has(namespaceOf(pid, kind) ?? ''));
    const command = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim();
    if (inside || command.includes(folder)) processes.push(`${pid} ${command}`);
  }
  const mounts = read('/proc/self/mountinfo')
    .split('\n')
    .filter((line) => line.includes(folder));
  return { processes, mounts, folders: existsSync(folder) ? [folder] : [] };
}

function descendants(root: number): number[] {
  const children = new Map<number, number[]>();
  for (const pid of allPids()) {
    const parent = parentOf(pid);
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), pid]);
  }
  const found: number[] = [];
  const queue = [root];
  for (let pid = queue.pop(); pid !== undefined; pid = queue.pop()) {
    for (const child of children.get(pid) ?? []) {
      found.push(child);
      queue.push(child);
    }
  }
  return found;
}

function allPids(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^[0-9]+$/.test(name))
    .map(Number);
}

/** The fields of `/proc/PID/stat` after the command, whose own name may hold spaces and brackets. */
function statFields(pid: number): string[] {
  const stat = read(`/proc/${pid}/stat`);
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

function parentOf(pid: number): number | undefined {
  const parent = Number(statFields(pid)[1]);
  return Number.isInteger(parent) ? parent : undefined;
}

function isZombie(pid: number): boolean {
  return statFields(pid)[0] === 'Z';
}

function namespaceOf(pid: number | 'self', kind: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/${kind}`);
  } catch {
    // Ended meanwhile, or somebody else's process.
    return undefined;
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
