import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecInfo } from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';
import type { UserSide } from '../user/side.ts';
import { type SpoolBudget, spoolBudget } from './budget.ts';
import { Exec } from './exec.ts';
import { type Command, checkExecId } from './spec.ts';

const MOST_ENDED = 1_000;
/** An id whose output was dropped is remembered still, so that it never runs twice. */
const MOST_FORGOTTEN = 100_000;

/** All execs of this machine by the id that the caller chose. */
export class ExecTable {
  readonly #execs = new Map<string, Exec | Promise<Exec>>();
  readonly #ended: Exec[] = [];
  readonly #forgotten = new Set<string>();
  readonly #user: UserSide;
  readonly #spoolDir: string;
  readonly #budget: SpoolBudget;
  readonly #now: () => number;
  readonly #mostEnded: number;
  #closed = false;

  /** `mostEnded`: of so many the output is kept after they have ended. Default 1000. */
  constructor(options: { user: UserSide; stateDir: string; now: () => number; mostEnded?: number }) {
    this.#user = options.user;
    this.#spoolDir = join(options.stateDir, 'spool');
    this.#now = options.now;
    this.#mostEnded = options.mostEnded ?? MOST_ENDED;
    rmSync(this.#spoolDir, { recursive: true, force: true });
    mkdirSync(this.#spoolDir, { recursive: true, mode: 0o700 });
    this.#budget = spoolBudget(this.#spoolDir);
  }

  get running(): number {
    return this.#execs.size - this.#ended.length;
  }

  /** Starts the command under this id, or finds what was started under it with the same spec. */
  async start(id: string, command: Command): Promise<{ exec: Exec; created: boolean }> {
    checkExecId(id);
    if (this.#closed) throw new Fault('shutting_down', 'The sandbox is shutting down');
    const present = this.#execs.get(id);
    if (present !== undefined) {
      const exec = await present;
      if (exec.command.key !== command.key) {
        throw new Fault('exec_conflict', `Exec ${id} exists with another command or other settings`, {
          field: 'id',
        });
      }
      return { exec, created: false };
    }
    if (this.#forgotten.has(id)) throw forgotten(id);
    const starting = Exec.start(id, command, {
      user: this.#user,
      budget: this.#budget,
      spoolDir: this.#spoolDir,
      now: this.#now,
    });
    this.#execs.set(id, starting);
    try {
      const exec = await starting;
      this.#execs.set(id, exec);
      void exec.ended.then(() => this.#retire(exec));
      return { exec, created: true };
    } catch (error) {
      this.#execs.delete(id);
      throw error;
    }
  }

  async get(id: string): Promise<Exec> {
    const exec = await this.#execs.get(checkExecId(id));
    if (exec !== undefined) return exec;
    throw this.#forgotten.has(id)
      ? forgotten(id)
      : new Fault('exec_not_found', `There is no exec ${id}`, { field: 'id' });
  }

  list(): ExecInfo[] {
    return [...this.#execs.values()].filter((exec) => exec instanceof Exec).map((exec) => exec.info());
  }

  /** Ends everything: SIGTERM, and SIGKILL after `graceMs`. */
  async close(graceMs: number): Promise<void> {
    this.#closed = true;
    // One that is only now being started may yet fail to.
    await Promise.allSettled(
      [...this.#execs.values()].map(async (starting) => {
        const exec = await starting;
        if (exec.end !== undefined) return;
        exec.stop(graceMs);
        await exec.ended;
      }),
    );
    rmSync(this.#spoolDir, { recursive: true, force: true });
  }

  #retire(exec: Exec): void {
    this.#ended.push(exec);
    while (this.#ended.length > this.#mostEnded || this.#crowdedByEnded()) {
      const oldest = this.#ended.shift()!;
      oldest.stdout.dispose();
      oldest.stderr.dispose();
      this.#execs.delete(oldest.id);
      this.#forgotten.add(oldest.id);
    }
    for (const id of this.#forgotten) {
      if (this.#forgotten.size <= MOST_FORGOTTEN) break;
      this.#forgotten.delete(id);
    }
  }

  #crowdedByEnded(): boolean {
    return this.#ended.length > 1 && this.#budget.used > this.#budget.totalBytes;
  }
}

function forgotten(id: string): Fault {
  return new Fault('exec_ended', `Exec ${id} ended and its output is no longer kept`, { field: 'id' });
}
