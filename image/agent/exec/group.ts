import { isMarked, type Process, processes } from '../user/processes.ts';

const LOOK_EVERY_MS = 50;

/** The processes of one exec: a process group, and those who left it. */
export class Group {
  readonly #leader: number;
  readonly #mark: string;

  /** `mark`: `NAME=value` that is in the environment of its processes and of no others. */
  constructor(leader: number, mark: string) {
    this.#leader = leader;
    this.#mark = mark;
  }

  /** To every process of the group; false when there is none. */
  signal(signal: NodeJS.Signals | 0): boolean {
    try {
      process.kill(-this.#leader, signal);
      return true;
    } catch {
      return false;
    }
  }

  /** Kills the group and all who descend from it, also those that made a session of their own. */
  kill(): void {
    this.#kill(this.#family([]));
  }

  /** SIGTERM to the group, and after `graceMs` SIGKILL to what is left of it and to those who left it. */
  async end(graceMs: number): Promise<void> {
    // Whoever loses its parent now, and has not kept the mark, can't be told from a stranger later.
    const known = this.#family([]);
    this.signal('SIGTERM');
    for (let waited = 0; waited < graceMs && this.#isAlive(); waited += LOOK_EVERY_MS) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
    this.#kill(this.#family(known));
  }

  /** Whether anyone of the group is there and not only waiting to be reaped. */
  #isAlive(): boolean {
    return this.signal(0) && processes().some((each) => each.group === this.#leader);
  }

  #kill(family: Process[]): void {
    this.signal('SIGKILL');
    let round = family;
    // A process may fork between the look and the kill; a few rounds catch its children.
    for (let rounds = 0; rounds < 5 && round.length > 0; rounds += 1) {
      for (const { pid } of round) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // It has ended by itself.
        }
      }
      const done = new Set(round.map(({ pid, born }) => `${pid} ${born}`));
      round = this.#family(round).filter(({ pid, born }) => !done.has(`${pid} ${born}`));
    }
  }

  /**
   * All living processes that descend from the leader or from one of `known`, are in a session of theirs, or carry the mark:
   * a daemon has cut all other ties.
   */
  #family(known: Process[]): Process[] {
    const all = processes();
    const alive = new Map(all.map((each) => [each.pid, each]));
    const family = new Map<number, Process>();
    for (const each of known) {
      if (alive.get(each.pid)?.born === each.born) family.set(each.pid, each);
    }
    for (const each of all) {
      if (isMarked(each.pid, this.#mark)) family.set(each.pid, each);
    }
    const sessions = new Set([this.#leader, ...[...known, ...family.values()].map(({ session }) => session)]);
    for (let before = -1; before !== family.size; ) {
      before = family.size;
      for (const each of all) {
        if (family.has(each.pid) || each.pid === process.pid) continue;
        if (each.parent === this.#leader || family.has(each.parent) || sessions.has(each.session)) {
          family.set(each.pid, each);
          sessions.add(each.session);
        }
      }
    }
    return [...family.values()];
  }
}
