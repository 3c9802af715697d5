import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecInfo } from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';
import type { Gate } from '../seal/gate.ts';
import type { UserSide } from '../user/side.ts';
import { type SpoolBudget, spoolBudget } from './budget.ts';
import { Exec } from './exec.ts';
import { Journal } from './journal.ts';
import { PastExec } from './past.ts';
import { type Command, checkExecId } from './spec.ts';

const MOST_ENDED = 1_000;
/** An id whose output was dropped is remembered still, so that it never runs twice. */
const MOST_FORGOTTEN = 100_000;

export interface ExecTableOptions {
  user: UserSide;
  gate: Gate;
  stateDir: string;
  now: () => number;
  /** Of so many the output is kept after they have ended. Default 1000. */
  mostEnded?: number;
  /** Why an earlier agent of this machine has ended, where there was one. */
  restarted?: string | undefined;
}

/** All execs of this machine by the id that the caller chose. */
export class ExecTable {
  readonly #execs = new Map<string, Exec | Promise<Exec>>();
  readonly #ended: Exec[] = [];
  readonly #forgotten = new Set<string>();
  readonly #past = new Map<string, PastExec>();
  readonly #journal: Journal;
  readonly #user: UserSide;
  readonly #gate: Gate;
  readonly #spoolDir: string;
  readonly #budget: SpoolBudget;
  readonly #now: () => number;
  readonly #mostEnded: number;
  #closed = false;

  constructor(options: ExecTableOptions) {
    this.#user = options.user;
    this.#gate = options.gate;
    this.#spoolDir = join(options.stateDir, 'spool');
    this.#now = options.now;
    this.#mostEnded = options.mostEnded ?? MOST_ENDED;
    rmSync(this.#spoolDir, { recursive: true, force: true });
    mkdirSync(this.#spoolDir, { recursive: true, mode: 0o700 });
    this.#budget = spoolBudget(this.#spoolDir);
    this.#journal = new Journal(options.stateDir);
    for (const record of this.#journal.past.values()) {
      this.#past.set(record.id, new PastExec(record, options.restarted ?? 'crashed', this.#now));
    }
  }

  get running(): number {
    return this.#execs.size - this.#ended.length;
  }

  /** Starts the command under this id, or finds what was started under it with the same spec. */
  async start(id: string, command: Command): Promise<{ exec: Exec | PastExec; created: boolean }> {
    checkExecId(id);
    if (this.#closed) throw new Fault('shutting_down', 'The sandbox is shutting down');
    const known = this.#find(id);
    if (known !== undefined) {
      const present = await known;
      if (!present.isOf(command.key)) {
        throw new Fault('exec_conflict', `Exec ${id} exists with another command or other settings`, {
          field: 'id',
        });
      }
      return { exec: present, created: false };
    }
    if (this.#forgotten.has(id)) throw forgotten(id);
    const starting = this.#gate.admit(() => this.#start(id, command));
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

  async get(id: string): Promise<Exec | PastExec> {
    const exec = await this.#find(checkExecId(id));
    if (exec !== undefined) return exec;
    throw this.#forgotten.has(id)
      ? forgotten(id)
      : new Fault('exec_not_found', `There is no exec ${id}`, { field: 'id' });
  }

  /** Throws `exec_ended` where it is over. */
  async live(id: string): Promise<Exec> {
    const exec = await this.get(id);
    if (exec instanceof Exec && exec.end === undefined) return exec;
    throw new Fault('exec_ended', `Exec ${id} has ended`);
  }

  list(): ExecInfo[] {
    const here = [...this.#execs.values()].filter((exec) => exec instanceof Exec);
    return [...this.#past.values(), ...here].map((exec) => exec.info());
  }

  /** The session is being stopped: whoever is ended by a signal from now on was so by that. */
  markStopped(): void {
    for (const exec of this.#execs.values()) if (exec instanceof Exec) exec.markStopped();
  }

  /** Settles when every exec has ended and its readers were told; a reader that takes nothing is given up after `mostMs`. */
  async told(mostMs: number): Promise<void> {
    const execs = [...this.#execs.values()].filter((exec) => exec instanceof Exec);
    await Promise.all(execs.map((exec) => exec.ended));
    const patience = new AbortController();
    await Promise.race([
      Promise.allSettled(execs.flatMap(({ following }) => [...following])),
      sleep(mostMs, undefined, { signal: patience.signal }).catch(() => {}),
    ]);
    patience.abort();
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

  /** The journal comes first: an agent that dies in between must not let another one run it again. */
  async #start(id: string, command: Command): Promise<Exec> {
    this.#journal.starts(id, command.key, this.#now());
    try {
      return await Exec.start(id, command, {
        user: this.#user,
        budget: this.#budget,
        spoolDir: this.#spoolDir,
        now: this.#now,
        onEnd: (exec) => this.#journal.ended(id, exec.endedAt!, exec.end!),
      });
    } catch (error) {
      this.#journal.refused(id);
      throw error;
    }
  }

  #find(id: string): Exec | PastExec | Promise<Exec> | undefined {
    return this.#past.get(id) ?? this.#execs.get(id);
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
