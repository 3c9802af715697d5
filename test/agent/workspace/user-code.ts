import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import type { Quiet } from '../../../image/agent/workspace/pack.ts';

/** A program of the user's with all that it starts, in a group of its own. */
export class UserCode implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #group: number;
  /** Held still so often. */
  pauses = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#group = child.pid!;
  }

  /** Settles when the program has written its first line. */
  static async start(cwd: string, file: string, ...args: string[]): Promise<UserCode> {
    const child = spawn(file, args, { cwd, detached: true, stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout!, 'data');
    child.stdout!.resume();
    return new UserCode(child);
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Runs the work while no process of the group runs. */
  readonly quiet: Quiet = async (work) => {
    const began = performance.now();
    do {
      process.kill(-this.#group, 'SIGSTOP');
      await setImmediate();
    } while (this.#states().some((state) => !'TtZX'.includes(state)));
    this.pauses += 1;
    try {
      return { value: await work(), atomic: true, pausedMs: performance.now() - began };
    } finally {
      process.kill(-this.#group, 'SIGCONT');
    }
  };

  /** The state letter of each process of the group. */
  #states(): string[] {
    return readdirSync('/proc').flatMap((pid) => {
      if (!/^\d+$/.test(pid)) return [];
      try {
        const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
          .replace(/^.*\) /s, '')
          .split(' ');
        return Number(fields[2]) === this.#group ? [fields[0]!] : [];
      } catch {
        return [];
      }
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.running) return;
    const exited = once(this.#child, 'exit');
    process.kill(-this.#group, 'SIGKILL');
    await exited;
  }
}
