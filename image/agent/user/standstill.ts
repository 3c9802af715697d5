import { Calm, type Process, processes, send, sendToGroup } from './processes.ts';
import type { Finder } from './whose.ts';

/** Holds processes still by SIGSTOP, and knows which of them were stopped before. */
export class Standstill {
  readonly #find: Finder;
  readonly #letGo = () => this.end();
  /** Stopped by somebody else. */
  #others: Set<number> | undefined;
  /** In the order in which they were stopped. */
  readonly #stopped = new Set<number>();
  readonly #calm = new Calm();

  constructor(find: Finder) {
    this.#find = find;
    // An agent that ends by itself leaves nobody standing still. One that is killed is started again, and ends them.
    process.once('exit', this.#letGo);
  }

  /** Stops what runs; true when nothing does. To be called until then. */
  look(): boolean {
    return this.#calm.after(() => {
      const all = this.#find();
      const guards = guardsOf(all);
      this.#others ??= new Set([...guards, ...all].filter(isStopped).map(({ pid }) => pid));
      // Whoever waits for a child must be stopped before it, and so not hear of it.
      return this.#stop(guards, send) && this.#stop(all.toSorted(byPid), stopWithGroup);
    });
  }

  /** Lets those go on that it has stopped. */
  end(): void {
    process.off('exit', this.#letGo);
    for (const pid of [...this.#stopped].reverse()) send(pid, 'SIGCONT');
    this.#stopped.clear();
  }

  #stop(all: Process[], stop: (pid: number, signal: 'SIGSTOP', group: number) => void): boolean {
    const still = new Set(all.filter(isStopped).map(({ pid }) => pid));
    for (const { pid } of all) if (!this.#others!.has(pid)) this.#stopped.add(pid);
    const running = all.filter(({ pid }) => !still.has(pid));
    for (const { pid, group } of running) {
      stop(pid, 'SIGSTOP', group);
      this.#others!.delete(pid);
      this.#stopped.add(pid);
    }
    // Such a one waits for a child that has yet to become another program, and does not run until then.
    const waits = (each: Process) =>
      each.state === 'D' && all.some(({ pid, parent }) => parent === each.pid && still.has(pid));
    return running.every(waits);
  }
}

/** The kernel signals a group while nobody in it can fork, so that also the child is stopped that is just being made. */
function stopWithGroup(pid: number, signal: 'SIGSTOP', group: number): void {
  send(pid, signal);
  sendToGroup(group, signal);
}

function isStopped({ state }: Process): boolean {
  return state === 'T' || state === 't';
}

function byPid(a: Process, b: Process): number {
  return a.pid - b.pid;
}

/** Children of the agent that look after a process of the user's, as `nsenter` does: it stops itself when its child is stopped. */
function guardsOf(all: Process[]): Process[] {
  const found = new Set(all.map(({ pid }) => pid));
  const parents = new Set(all.map(({ parent }) => parent));
  return processes().filter(
    ({ pid, parent }) => parent === process.pid && parents.has(pid) && !found.has(pid),
  );
}
