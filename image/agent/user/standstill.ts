import { type Process, processes, send } from './processes.ts';
import type { Finder } from './whose.ts';

/** Holds processes still by SIGSTOP, and knows which of them were stopped by somebody else. */
export class Standstill {
  readonly #find: Finder;
  readonly #others = new Set<number>();
  readonly #stopped = new Set<number>();
  readonly #letGo = () => this.end();

  constructor(find: Finder) {
    this.#find = find;
    // An agent that ends by itself leaves nobody standing still. One that is killed is started again, and ends them.
    process.once('exit', this.#letGo);
  }

  /** Stops what runs; true when nothing does. To be called until then. */
  look(): boolean {
    const all = this.#find();
    // Whoever waits for a child must be stopped before it, and so not hear of it.
    if (!this.#stop(guardsOf(all))) return false;
    return this.#stop(all.toSorted((a, b) => a.pid - b.pid));
  }

  /** Lets those go on that it has stopped. */
  end(): void {
    process.off('exit', this.#letGo);
    for (const pid of [...this.#stopped].reverse()) send(pid, 'SIGCONT');
    this.#stopped.clear();
  }

  #stop(all: Process[]): boolean {
    const [still, running] = [new Set<number>(), [] as Process[]];
    for (const each of all) {
      if (!isStopped(each.state)) running.push(each);
      else {
        still.add(each.pid);
        if (!this.#stopped.has(each.pid)) this.#others.add(each.pid);
      }
    }
    for (const { pid } of running) {
      send(pid, 'SIGSTOP');
      this.#others.delete(pid);
      this.#stopped.add(pid);
    }
    // Such a one waits for a child that has yet to become another program, and does not run until then.
    const waits = (each: Process) =>
      each.state === 'D' && all.some(({ pid, parent }) => parent === each.pid && still.has(pid));
    return running.every(waits);
  }
}

function isStopped(state: string): boolean {
  return state === 'T' || state === 't';
}

/** Children of the agent that look after a process of the user's, as `nsenter` does: it stops itself when its child is stopped. */
function guardsOf(all: Process[]): Process[] {
  const found = new Set(all.map(({ pid }) => pid));
  const parents = new Set(all.map(({ parent }) => parent));
  return [...parents].some((pid) => !found.has(pid))
    ? processes().filter(({ pid, parent }) => parent === process.pid && parents.has(pid) && !found.has(pid))
    : [];
}
