import { closeSync, existsSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

const KINDS = ['pid', 'mnt', 'net', 'user'];

/** Namespaces by name, such as `pid:[4026532402]`, kept from being made anew under the same name until they are let go. */
export class Namespaces {
  readonly names: Set<string>;
  readonly #held: number[];

  /** Those of the processes below `ancestor` that are not also those of this process. */
  static below(ancestor: number): Namespaces {
    const own = new Set(namespacesOf(process.pid).map(([name]) => name));
    const found = processes()
      .filter((pid) => pid !== ancestor && isBelow(pid, ancestor))
      .flatMap(namespacesOf)
      .filter(([name]) => !own.has(name));
    return new Namespaces(new Map(found));
  }

  private constructor(files: Map<string, string>) {
    this.names = new Set(files.keys());
    this.#held = [...files.values()].flatMap(opened);
  }

  /** Processes that still live in one of them; a zombie is none. */
  processes(): number[] {
    return processes().filter((pid) => namespacesOf(pid).some(([name]) => this.names.has(name)));
  }

  letGo(): void {
    for (const fd of this.#held) closeSync(fd);
  }
}

export function mountsBelow(folder: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(folder));
}

/** Cgroups of the engine that works in `stateDir`, below every cgroup file system of this host. */
export function cgroupsOf(name: string): string[] {
  const walk = (dir: string, depth: number): string[] =>
    depth === 0 || !existsSync(dir)
      ? []
      : readdirSync(dir, { withFileTypes: true })
          .filter((entry) => entry.isDirectory())
          .flatMap(({ name }) => [join(dir, name), ...walk(join(dir, name), depth - 1)]);
  return walk('/sys/fs/cgroup', 6).filter((path) => path.includes(name));
}

function processes(): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0);
}

function namespacesOf(pid: number): [name: string, file: string][] {
  return KINDS.flatMap((kind): [string, string][] => {
    try {
      const file = `/proc/${pid}/ns/${kind}`;
      return [[readlinkSync(file), file]];
    } catch {
      return [];
    }
  });
}

function isBelow(pid: number, ancestor: number): boolean {
  for (let at = pid; at > 1; ) {
    if (at === ancestor) return true;
    try {
      at = Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${at}/status`, 'utf8'))?.[1] ?? 0);
    } catch {
      return false;
    }
  }
  return false;
}

/** A process may end while it is looked at. */
function opened(file: string): number[] {
  try {
    return [openSync(file, 'r')];
  } catch {
    return [];
  }
}
