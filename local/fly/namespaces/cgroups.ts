import { existsSync, readFileSync } from 'node:fs';
import { chown, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { removeCgroup, tree, until } from './cgroup-tree.ts';
import { type Hierarchy, type Limits, limitFiles } from './hierarchies.ts';

const FREEZE_TIMEOUT_MS = 5_000;

/** A file system of cgroups as a machine sees it: its own cgroup is the top. */
export interface CgroupView {
  type: 'cgroup' | 'cgroup2';
  at: string;
  options: string;
}

/** The cgroups of one machine, one in each hierarchy. */
export class MachineCgroups {
  readonly #hierarchies: Hierarchy[];
  readonly #id: string;

  constructor(hierarchies: Hierarchy[], id: string) {
    this.#hierarchies = hierarchies;
    this.#id = id;
  }

  /** Makes the cgroups with their limits. `owner` may make cgroups below, but not change these. */
  async create(limits: Limits, owner: number): Promise<void> {
    for (const hierarchy of this.#hierarchies) {
      const folder = this.#folder(hierarchy);
      await mkdir(folder);
      for (const [file, value] of limitFiles(hierarchy, limits)) {
        if (existsSync(join(folder, file))) await writeFile(join(folder, file), value);
      }
      await chown(folder, owner, owner);
      await chown(join(folder, 'cgroup.procs'), owner, owner);
    }
  }

  /** What the machine sees of them, for its mount table. */
  get views(): CgroupView[] {
    return this.#hierarchies.flatMap(({ version, controllers }): CgroupView[] => {
      if (version === 2)
        return [
          {
            type: 'cgroup2',
            at: controllers.length > 0 ? '/sys/fs/cgroup' : '/sys/fs/cgroup/unified',
            options: 'rw',
          },
        ];
      // Node sizes its heap by this one.
      return controllers.includes('memory')
        ? [{ type: 'cgroup', at: '/sys/fs/cgroup/memory', options: 'rw,memory' }]
        : [];
    });
  }

  /** Files that a process writes `0` into to join. */
  get joinFiles(): string[] {
    return this.#hierarchies.map((hierarchy) => join(this.#folder(hierarchy), 'cgroup.procs'));
  }

  get canFreeze(): boolean {
    return this.#freezeFile() !== undefined;
  }

  /** Resolves when every process of the machine stands still, or runs again. */
  async freeze(frozen: boolean): Promise<void> {
    const file = this.#freezeFile();
    if (!file) throw new Error('No cgroup v2 tree to freeze the machine in');
    await writeFile(file, frozen ? '1' : '0');
    const events = join(file, '../cgroup.events');
    const reached = async () => (await readFile(events, 'utf8')).includes(`frozen ${frozen ? 1 : 0}`);
    if (!(await until(reached, FREEZE_TIMEOUT_MS))) {
      throw new Error(`The machine was not ${frozen ? 'frozen' : 'thawed'} within ${FREEZE_TIMEOUT_MS} ms`);
    }
  }

  /** How many processes the kernel has killed here for memory. */
  oomKills(): number {
    const memory = this.#hierarchies.find(({ controllers }) => controllers.includes('memory'));
    if (!memory) return 0;
    const file = memory.version === 1 ? 'memory.oom_control' : 'memory.events';
    // v1 counts each cgroup by itself, v2 counts those below as well.
    const folders = memory.version === 1 ? tree(this.#folder(memory)) : [this.#folder(memory)];
    return folders.map((folder) => counter(join(folder, file), 'oom_kill')).reduce((sum, n) => sum + n, 0);
  }

  /** Kills what is left in the cgroups and removes them. Safe to repeat. */
  async remove(): Promise<void> {
    for (const hierarchy of this.#hierarchies) await removeCgroup(this.#folder(hierarchy));
  }

  #folder(hierarchy: Hierarchy): string {
    return join(hierarchy.folder, this.#id);
  }

  #freezeFile(): string | undefined {
    const tree = this.#hierarchies.find(({ version }) => version === 2);
    return tree && join(this.#folder(tree), 'cgroup.freeze');
  }
}

function counter(file: string, name: string): number {
  if (!existsSync(file)) return 0;
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(readFileSync(file, 'utf8'))?.[1] ?? 0);
}
