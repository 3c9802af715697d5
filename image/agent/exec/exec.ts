import { join } from 'node:path';
import type { ExecInfo, ExecResult } from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';
import type { Spawned, UserSide } from '../user/side.ts';
import type { SpoolBudget } from './budget.ts';
import type { Followed } from './follow.ts';
import { Group } from './group.ts';
import type { ExecEnd } from './journal.ts';
import { countOomKills } from './oom.ts';
import { Output } from './output.ts';
import type { Command } from './spec.ts';
import { Spool } from './spool.ts';
import { Stdin } from './stdin.ts';

/** Output that is still under way when the process ends: so long a silence closes it, and so long a time at most. */
const LINGER_IDLE_MS = 250;
const LINGER_MOST_MS = 5_000;
const KILL_AFTER_MS = 5_000;
/** In the environment of what an exec starts: it tells its processes from those of others, also where they have become orphans. */
const MARK = 'SANDBOX_EXEC_ID';

export interface ExecParts {
  user: UserSide;
  budget: SpoolBudget;
  spoolDir: string;
  now: () => number;
  /** Called before anybody is told. */
  onEnd: (exec: Exec) => void;
}

/** One command and all that is known of it. */
export class Exec implements Followed {
  readonly id: string;
  readonly command: Command;
  readonly pid: number;
  readonly startedAt: number;
  readonly stdout: Spool;
  readonly stderr: Spool;
  readonly stdin: Stdin;
  readonly now: () => number;
  /** Settles when the exec has ended. */
  readonly ended: Promise<void>;
  endedAt: number | undefined;
  /** The last event of the exec's stream; present once it has ended. */
  end: ExecEnd | undefined;
  readonly following = new Set<Promise<unknown>>();
  readonly #group: Group;
  readonly #onEnd: (exec: Exec) => void;
  readonly #outputs: Output[];
  readonly #oomKillsBefore = countOomKills();
  #deadline: NodeJS.Timeout;
  #timedOut = false;
  #stopped = false;
  #groupEnded: Promise<void> | undefined;
  #waiting: (() => void)[] = [];
  #markEnded: () => void = () => {};

  /** Rejects with a coded fault when the command can't be started. */
  static async start(id: string, command: Command, parts: ExecParts): Promise<Exec> {
    return new Exec(
      id,
      command,
      await parts.user.spawn({ ...command, env: { ...command.env, [MARK]: id } }),
      parts,
    );
  }

  private constructor(id: string, command: Command, { child, stdout, stderr }: Spawned, parts: ExecParts) {
    this.id = id;
    this.command = command;
    this.pid = child.pid!;
    this.#group = new Group(this.pid, `${MARK}=${id}`);
    this.now = parts.now;
    this.#onEnd = parts.onEnd;
    this.startedAt = this.now();
    this.ended = new Promise((resolve) => {
      this.#markEnded = resolve;
    });
    const spool = (name: string) =>
      new Spool(join(parts.spoolDir, `${id}.${name}`), parts.budget, () => this.relieve());
    this.stdout = spool('out');
    this.stderr = spool('err');
    this.stdin = new Stdin(child.stdin);
    this.#outputs = [new Output(stdout, this.stdout, this), new Output(stderr, this.stderr, this)];
    this.#deadline = setTimeout(() => this.#timeOut(), command.timeoutMs);
    child.once('exit', (code, signal) => void this.#exited(code, signal));
  }

  isOf(key: string): boolean {
    return this.command.key === key;
  }

  info(): ExecInfo {
    return {
      id: this.id,
      state: this.end === undefined ? 'running' : 'ended',
      pid: this.pid,
      started_at: this.startedAt,
      ...(this.endedAt === undefined ? {} : { ended_at: this.endedAt }),
      ...(this.end === undefined ? {} : { result: this.end.result }),
      ...(this.end?.oom_killed ? { oom_killed: true } : {}),
      stdout_bytes: this.stdout.end,
      stderr_bytes: this.stderr.end,
    };
  }

  /** To the whole group. SIGKILL also reaches those that left it. */
  signal(signal: NodeJS.Signals): void {
    if (this.end !== undefined) throw new Fault('exec_ended', `Exec ${this.id} has ended`);
    if (signal === 'SIGKILL') this.#group.kill();
    else this.#group.signal(signal);
  }

  /** Settles at the next change: bytes, the end, or a reader that left. */
  changed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  notify(): void {
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }

  /** A reader moved or left, or bytes went to disk: a process that waits for room may go on. */
  relieve(): void {
    for (const output of this.#outputs) output.relieve();
  }

  /** The session is being stopped, and all signals come from that. */
  markStopped(): void {
    this.#stopped = true;
  }

  /** SIGTERM to the group, SIGKILL to what is left of it `graceMs` later. */
  stop(graceMs: number): void {
    this.#groupEnded ??= this.#group.end(graceMs);
  }

  #timeOut(): void {
    this.#timedOut = true;
    this.stop(KILL_AFTER_MS);
  }

  async #exited(code: number | null, signal: NodeJS.Signals | null): Promise<void> {
    await this.#groupEnded;
    await this.#lingering();
    clearTimeout(this.#deadline);
    this.endedAt = this.now();
    for (const output of this.#outputs) output.close();
    this.stdin.close();
    const oomKilled = (signal === 'SIGKILL' || code === 137) && countOomKills() > this.#oomKillsBefore;
    this.end = {
      type: 'end',
      result: this.#result(code, signal),
      stdout_bytes: this.stdout.end,
      stderr_bytes: this.stderr.end,
      duration_ms: this.endedAt - this.startedAt,
      ...(oomKilled ? { oom_killed: true } : {}),
    };
    this.#onEnd(this);
    this.notify();
    this.#markEnded();
  }

  #result(code: number | null, signal: NodeJS.Signals | null): ExecResult {
    if (this.#timedOut) return { kind: 'timed_out', timeout_ms: this.command.timeoutMs };
    if (signal === null) return { kind: 'exited', code: code ?? 0 };
    return { kind: 'signaled', signal, ...(this.#stopped ? { by: 'stop' } : {}) };
  }

  /** Waits for the pipes to close, but not for a process in the background that holds them open. */
  async #lingering(): Promise<void> {
    const open = () => this.#outputs.filter((output) => !output.finished);
    let patience = LINGER_MOST_MS;
    while (open().length > 0 && patience > 0) {
      const before = this.stdout.end + this.stderr.end;
      const waited = this.now();
      await Promise.race([Promise.all(open().map((output) => output.done)), after(LINGER_IDLE_MS)]);
      // Time in which we made the process wait is not its silence.
      if (open().some((output) => output.paused)) continue;
      patience -= Math.max(1, this.now() - waited);
      if (this.stdout.end + this.stderr.end === before) break;
    }
  }
}

function after(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
