import { setTimeout as pause } from 'node:timers/promises';
import { log } from '../log.ts';
import { environmentOf, hasUid, pidNamespace, type Relation, relationOf, relations } from './proc.ts';

/** Which processes are the user's: a fresh look each time. */
export type Look = () => Relation[];

export interface Ended {
  /** Processes that got SIGTERM, and those that had to be killed. */
  terminated: number;
  killed: number;
}

export interface Frozen {
  /** False: there were processes that kept running. */
  complete: boolean;
  /** Lets go on what was stopped. May be called twice. */
  thaw: () => void;
}

const LOOK_EVERY_MS = 25;
/** A process that waits in the kernel, say for a disk, dies when that lets it go. */
const KILL_MOST_MS = 60_000;
/** Between two warnings that something does not die. */
const TELL_EVERY_MS = 10_000;
/** Processes that fork as fast as they are stopped run out of room to do so: each round leaves fewer that run. */
const MOST_ROUNDS = 1_000;

/**
 * All that the user runs in the machine, daemons that have cut every tie with their exec included. There is one sweep for every kind of
 * machine, so that it does not depend on a cgroup being handed to us.
 */
export class UserProcesses {
  readonly #look: Look;
  readonly #carriers: Look;

  /**
   * `carriers`: processes of the agent's that each wait for one of the user's and pass its end on. Such a one stands still when it sees its
   * child do so, and has to be let go on with it; it is never ended, as it would take its child along.
   */
  constructor(look: Look, carriers: Look = () => []) {
    this.#look = look;
    this.#carriers = carriers;
  }

  count(): number {
    return this.#look().length;
  }

  /**
   * Stops every process and answers what lets them go on; those that were stopped before stay so. Parents are stopped before their children
   * and go on after them, so that no shell ever sees its child stand still and takes it for a job to be put into the background.
   */
  async freeze(): Promise<Frozen> {
    const stopped = new Map<string, Relation>();
    let complete = false;
    for (let round = 0; round < MOST_ROUNDS && !complete; round++) {
      const all = [...this.#look(), ...this.#carriers()];
      const running = byDepth(all.filter(({ state }) => state !== 'T' && state !== 't'));
      for (const each of running) {
        if (send(each, 'SIGSTOP')) stopped.set(keyOf(each), each);
      }
      complete = running.length === 0;
      // A signal takes effect when the process next leaves the kernel.
      if (!complete) await pause(1);
    }
    const thaw = () => {
      const order = byDepth([...stopped.values()]).reverse();
      stopped.clear();
      for (const each of order) send(each, 'SIGCONT');
    };
    return { complete, thaw };
  }

  /** SIGTERM to each, and SIGKILL to what is left after `graceMs`. Resolves when a look finds none. Rejects where something does not die. */
  async end(graceMs: number): Promise<Ended> {
    const first = this.#look();
    // What stands still would hear of it only when it goes on.
    for (const each of first) if (send(each, 'SIGTERM')) send(each, 'SIGCONT');
    const until = performance.now() + graceMs;
    while (this.count() > 0 && performance.now() < until) await pause(LOOK_EVERY_MS);
    return { terminated: first.length, killed: await this.#kill() };
  }

  async #kill(): Promise<number> {
    const killed = new Set<string>();
    const began = performance.now();
    let toldAt = began;
    for (let left = this.#look(); left.length > 0; left = this.#look()) {
      // One that was stopped first can't fork while the others are being killed.
      for (const each of left) send(each, 'SIGSTOP');
      for (const each of this.#look()) {
        killed.add(keyOf(each));
        send(each, 'SIGKILL');
      }
      for (const each of this.#carriers()) send(each, 'SIGCONT');
      await pause(1);
      const now = performance.now();
      if (now - began > KILL_MOST_MS) throw new Error(`${left.length} processes of the user do not die`);
      if (now - toldAt > TELL_EVERY_MS) {
        toldAt = now;
        log('warn', 'processes of the user do not die', { pids: left.map(({ pid }) => pid).slice(0, 20) });
      }
    }
    for (const each of this.#carriers()) send(each, 'SIGCONT');
    return killed.size;
  }
}

/** Everything that has the user's uid. */
export function ofUid(uid: number): Look {
  return () => relations().filter(({ pid }) => pid !== process.pid && hasUid(pid, uid));
}

/** What carries one of these marks (`NAME=value`) in its environment, also where it has become an orphan. */
export function marked(name: string, values: () => ReadonlySet<string>): Look {
  const form = new RegExp(`(?:^|\\0)${name}=([^\\0]*)`);
  return () => {
    const known = values();
    return relations().filter(({ pid }) => known.has(form.exec(environmentOf(pid))?.[1] ?? ''));
  };
}

/** Everything in the pid namespace of `init`, which has to stay itself; nothing where there is none. */
export function inNamespaceOf(init: () => number | undefined): Look {
  return () => {
    const first = init();
    const namespace = first === undefined ? undefined : pidNamespace(first);
    if (namespace === undefined || namespace === pidNamespace('self')) return [];
    return relations().filter(({ pid }) => pid !== first && pidNamespace(pid) === namespace);
  };
}

/** Parents before their children. */
function byDepth(processes: Relation[]): Relation[] {
  const parents = new Map(processes.map(({ pid, parent }) => [pid, parent]));
  const depth = ({ pid }: Relation): number => {
    let steps = 0;
    for (let at = parents.get(pid); at !== undefined && steps < processes.length; at = parents.get(at))
      steps++;
    return steps;
  };
  return processes
    .map((each) => ({ each, depth: depth(each) }))
    .sort((a, b) => a.depth - b.depth)
    .map(({ each }) => each);
}

const keyOf = ({ pid, born }: Relation) => `${pid} ${born}`;

/** Only to the very process that was seen: its pid may be another's by now. */
function send({ pid, born }: Relation, signal: NodeJS.Signals): boolean {
  if (relationOf(pid)?.born !== born) return false;
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}
