import type { Logger } from 'pino';
import { FlyError, madeNothing } from '../../fly/index.ts';
import type { AgentHub } from '../agents/hub.ts';
import { CodedError } from '../errors.ts';
import type { WorkspaceFiles } from '../files/workspace.ts';
import type { Failure, Store } from '../store/index.ts';
import type { SandboxRow, SessionSettings } from '../store/rows.ts';
import { asFailure, failureReason, judgeCreate, machineLost, parseFailure } from './failures.ts';
import { hasEnded, isGone, type Machines, type MachineView } from './machines.ts';
import { backoff, pause } from './pause.ts';
import { StopBarrier } from './stop-barrier.ts';

export interface WorkerDeps {
  store: Store;
  machines: Machines;
  hub: AgentHub;
  files: Pick<WorkspaceFiles, 'seal' | 'save' | 'restore' | 'unsaved'>;
  times: WorkerTimes;
  /** See `stopGraceMs` and `unsavedKeepMs` of config.ts. */
  stopGraceMs: number;
  unsavedKeepMs: number;
  /** Called after every transition. */
  onChange(row: SandboxRow): void;
  /** Called before a machine is made; throws where none should be. */
  guard(row: SandboxRow): void;
  log: Logger;
  clock: () => number;
  random: () => number;
}

export interface WorkerTimes {
  /** From the row to ready. */
  startTimeoutMs: number;
  /** A destroy takes seconds; a host in trouble may take hours, and then it is asked for again. */
  destroyWaitMs: number;
  /** Between two looks for a machine whose id we never learned. */
  lookApartMs: number;
  /** First pause after a step that failed; doubles up to 32 times as much. */
  retryMs: number;
}

/** While an agent is awaited its machine is looked at this often. */
const AGENT_SLICE_MS = 5_000;
const CREATE_TIMEOUT_MS = 60_000;
/** A worker whose steps fail so often in a row gives up; the next clean-up sends another. */
const MOST_FAILURES = 20;
const ACTOR = 'lifecycle';

/**
 * Carries one sandbox on from where its row stands until it is at rest: `ready`, or `gone`. Every step may be repeated and reads nothing
 * but the row, so a controller that dies between any two of them leaves nothing that the next one could not take up:
 *
 * planned → machine made or found → created → agent called, files restored → ready
 * stopping → agent sealed, files saved → destroying → machine gone, by Fly's own word → gone
 *
 * A session that ends `stopped` has all its files saved: nothing can change after the seal. A save that fails keeps the sandbox (see
 * `StopBarrier`). A machine that Fly does not destroy does not keep its session: that is released, and the worker goes on asking.
 */
export class SandboxWorker {
  readonly #deps: WorkerDeps;
  readonly #name: string;
  readonly #signal: AbortSignal;
  #nudge = new AbortController();
  #stale = false;
  #ended = false;
  #settings: SessionSettings | undefined;
  #createTries = 0;
  /** A machine may have been made that no answer told of. */
  #mayExist = true;
  #lastFailure: Failure | undefined;
  #released = false;

  constructor(deps: WorkerDeps, name: string, signal: AbortSignal, settings?: SessionSettings) {
    this.#deps = deps;
    this.#name = name;
    this.#signal = signal;
    this.#settings = settings;
  }

  /** True from the moment on that it looks at its row no more. */
  get ended(): boolean {
    return this.#ended;
  }

  /** The row was changed from outside: stop waiting for what it said before, and read it again. */
  nudge(): void {
    this.#stale = true;
    this.#nudge.abort();
  }

  /** Resolves at rest, at the signal, or after too many failures in a row. `row` spares the first read. */
  async run(row?: SandboxRow): Promise<void> {
    let failures = 0;
    let next = row ?? null;
    // A row that was made this moment: nobody can have made a machine for it.
    if (row?.state === 'planned') this.#mayExist = false;
    while (!this.#signal.aborted) {
      try {
        if (next === null || this.#stale) next = await this.#read();
        const after: SandboxRow | typeof AT_REST = next === null ? AT_REST : await this.#step(next);
        failures = 0;
        if (after !== AT_REST) next = after;
        else if (this.#stale) next = null;
        else break;
      } catch (error) {
        next = null;
        if (this.#signal.aborted) continue;
        failures += 1;
        // Somebody else has moved the row on: read it again, though not for ever without a pause.
        if (failures === 1 && error instanceof CodedError && error.code === 'fenced') continue;
        const failure = asFailure(error);
        // That we kept to a rate limit says nothing of why we had to call so often.
        if (failure.code !== 'fly_rate_limited') this.#lastFailure = failure;
        this.#lastFailure ??= failure;
        this.#deps.log.warn({ sandbox: this.#name, failures, ...failure }, 'step failed');
        if (failures >= MOST_FAILURES) break;
        await this.#rest(failures);
      }
    }
    this.#ended = true;
  }

  #read(): Promise<SandboxRow | null> {
    this.#stale = false;
    this.#nudge = new AbortController();
    return this.#deps.store.findSandbox(this.#name);
  }

  async #step(row: SandboxRow): Promise<SandboxRow | typeof AT_REST> {
    switch (row.state) {
      case 'planned':
        return this.#create(row);
      case 'created':
        return this.#awaitAgent(row);
      case 'stopping':
        return this.#stop(row);
      case 'destroying':
        return this.#destroy(row);
      case 'ready':
      case 'gone':
        return AT_REST;
    }
  }

  async #create(row: SandboxRow): Promise<SandboxRow> {
    const remainingMs = this.#startsBy(row) - this.#deps.clock();
    if (remainingMs <= 0) return this.#giveUp(row, this.#lastFailure ?? startTimeout(row, 'no machine'));
    this.#settings ??= (await this.#deps.store.getSession(row.session_id)).settings;
    try {
      this.#deps.guard(row);
    } catch (error) {
      return this.#giveUp(row, asFailure(error));
    }
    try {
      this.#createTries += 1;
      const timeoutMs = Math.min(remainingMs, CREATE_TIMEOUT_MS);
      return await this.#adopt(row, await this.#make(row, this.#settings, timeoutMs));
    } catch (error) {
      if (this.#signal.aborted || error instanceof CodedError) throw error;
      if (judgeCreate(error, this.#createTries) === 'later') throw error;
      return this.#giveUp(row, asFailure(error));
    }
  }

  async #make(row: SandboxRow, settings: SessionSettings, timeoutMs: number): Promise<MachineView> {
    const before = this.#mayExist;
    this.#mayExist = true;
    try {
      return await this.#deps.machines.create(row, settings, { timeoutMs, signal: this.#signal });
    } catch (error) {
      if (error instanceof FlyError && madeNothing(error)) this.#mayExist = before;
      throw error;
    }
  }

  async #adopt(row: SandboxRow, machine: MachineView): Promise<SandboxRow> {
    // A found machine may have come from a summary, which has no metadata.
    const known =
      machine.metadata === undefined ? await this.#deps.machines.get(row.app, machine.id) : machine;
    if (known === null || known.state === 'destroyed')
      throw new Error(`machine ${machine.id} is gone already`);
    if (known.name !== row.name || !this.#deps.machines.isOurs(known)) {
      const detail = `The name ${row.name} is taken by machine ${machine.id}, which is not ours`;
      return this.#giveUp(row, { code: 'session_start_failed', detail });
    }
    return this.#changed(
      await this.#deps.store.sandboxCreated(row, { id: machine.id, region: machine.region }, ACTOR),
    );
  }

  async #awaitAgent(row: SandboxRow): Promise<SandboxRow> {
    const remainingMs = this.#startsBy(row) - this.#deps.clock();
    if (remainingMs <= 0)
      return this.#giveUp(row, this.#lastFailure ?? startTimeout(row, 'no call of its agent'));
    if (this.#deps.hub.get(row.name) === undefined) {
      const timeoutMs = Math.min(AGENT_SLICE_MS, remainingMs);
      const signal = AbortSignal.any([this.#signal, this.#nudge.signal]);
      const called = await this.#deps.hub.waitFor(row.name, { timeoutMs, signal }).catch(() => undefined);
      if (called === undefined) return this.#lookAfter(row);
    }
    try {
      await this.#deps.files.restore(row);
    } catch (error) {
      // What Storage holds does not get better by asking again.
      if (error instanceof CodedError && error.code === 'version_damaged')
        return this.#giveUp(row, asFailure(error));
      throw error;
    }
    return this.#changed(await this.#deps.store.sandboxReady(row, ACTOR));
  }

  /** No agent yet: is there still a row that wants one, and a machine that it could come from? */
  async #lookAfter(row: SandboxRow): Promise<SandboxRow> {
    const now = await this.#deps.store.findSandbox(row.name);
    if (now === null || now.state !== 'created' || this.#deps.hub.get(row.name) !== undefined)
      return now ?? row;
    const machine = await this.#deps.machines.get(row.app, row.machine_id!);
    if (!hasEnded(machine)) return row;
    const { detail } = machineLost(machine, `Machine ${row.machine_id} ended before its agent had called`);
    return this.#giveUp(row, { code: 'session_start_failed', detail });
  }

  /** Tries again until the files are saved, or may be given up, or the stop is cancelled: however long that takes. */
  async #stop(row: SandboxRow): Promise<SandboxRow> {
    const barrier = new StopBarrier(this.#deps, (at) => this.#lost(at));
    let now = row;
    for (let attempt = 1; ; attempt++) {
      const passed = await barrier.pass(now, AbortSignal.any([this.#signal, this.#nudge.signal]));
      if (passed.kind === 'saved') return this.#destroying(now, now.reason ?? 'stopped', passed.version);
      const { failure } = passed;
      if (passed.kind === 'lost') return this.#destroying(now, failureReason(failure));
      this.#signal.throwIfAborted();
      this.#deps.log.warn({ sandbox: row.name, attempt, ...failure }, 'files are not saved');
      const read = await this.#read();
      // Cancelled, or ended by somebody else.
      if (read === null || read.state !== 'stopping') return read ?? row;
      now = read;
      const discarded = await barrier.discard(now, failure);
      if (discarded !== null) return this.#changed(discarded);
      await pause(barrier.retryMs(failure, attempt), AbortSignal.any([this.#signal, this.#nudge.signal]));
      this.#signal.throwIfAborted();
    }
  }

  async #destroying(row: SandboxRow, reason: string, head: number | null = null): Promise<SandboxRow> {
    return this.#changed(await this.#deps.store.sandboxDestroying(row, reason, ACTOR, head));
  }

  /** What became of a machine that has ended by itself; null while it has not, or Fly does not say. */
  async #lost(row: SandboxRow): Promise<Failure | null> {
    const what = 'The machine ended before its files could be saved';
    if (row.machine_id === null) return machineLost(null, what);
    const machine = await this.#deps.machines.get(row.app, row.machine_id).catch(() => undefined);
    return machine !== undefined && hasEnded(machine) ? machineLost(machine, what) : null;
  }

  async #destroy(row: SandboxRow): Promise<SandboxRow | typeof AT_REST> {
    try {
      return row.machine_id === null
        ? await this.#destroyUnconfirmed(row)
        : await this.#destroyKnown(row, row.machine_id);
    } catch (error) {
      const since = this.#deps.clock() - Date.parse(row.updated_at);
      if (!this.#signal.aborted && since >= this.#deps.times.destroyWaitMs) await this.#release(row);
      throw error;
    }
  }

  async #destroyKnown(row: SandboxRow, id: string): Promise<SandboxRow | typeof AT_REST> {
    const machine = await this.#deps.machines.get(row.app, id);
    if (isGone(machine)) return this.#gone(row);
    if (!this.#mayDestroy(row, machine!)) {
      this.#deps.log.error(
        { sandbox: row.name, machine: machine!.id },
        'machine is not provably ours: left alone',
      );
      await this.#release(row);
      return AT_REST;
    }
    await this.#deps.machines.destroy(row.app, id, {
      waitMs: this.#deps.times.destroyWaitMs,
      signal: this.#signal,
    });
    if (isGone(await this.#deps.machines.get(row.app, id))) return this.#gone(row);
    throw new CodedError('fly_unavailable', `Machine ${id} is still there after it was destroyed`);
  }

  /** Its files are saved or given up, and its agent is refused: only Fly's part is missing, and no user waits for that. */
  async #release(row: SandboxRow): Promise<void> {
    if (this.#released) return;
    await this.#deps.store.releaseSession(row, await this.#failureOf(row), ACTOR);
    this.#released = true;
    this.#deps.onChange(row);
  }

  /** The row keeps the first reason for leaving, say that a stop was asked for; that its save failed stands in the event. */
  async #failureOf(row: SandboxRow): Promise<Failure | null> {
    return (
      parseFailure(row.reason) ??
      parseFailure(await this.#deps.store.findDestroyingReason(row.session_id, row.name))
    );
  }

  /** The create was never answered. What it may have made carries the name; twice not found counts, and the clean-up stays watchful. */
  async #destroyUnconfirmed(row: SandboxRow): Promise<SandboxRow> {
    if (!this.#mayExist) return this.#gone(row);
    let found = await this.#deps.machines.find(row.app, row.name);
    if (found === undefined) {
      await pause(this.#deps.times.lookApartMs, this.#signal);
      this.#signal.throwIfAborted();
      found = await this.#deps.machines.find(row.app, row.name);
    }
    if (found === undefined) return this.#gone(row);
    return this.#deps.store.sandboxCreated(row, { id: found.id, region: found.region }, ACTOR);
  }

  /** A host in trouble hides the metadata; then the id that Fly gave us for this very name has to do. */
  #mayDestroy(row: SandboxRow, machine: MachineView): boolean {
    if (machine.name !== row.name) return false;
    return machine.metadata === undefined
      ? machine.id === row.machine_id
      : this.#deps.machines.isOurs(machine);
  }

  async #gone(row: SandboxRow): Promise<SandboxRow> {
    const failure = await this.#failureOf(row);
    const reason = failure === null ? (row.reason ?? 'destroyed') : failureReason(failure);
    const gone = await this.#deps.store.sandboxGone(row, reason, failure, ACTOR);
    this.#deps.hub.drop(row.name, 'the sandbox is gone');
    return this.#changed(gone);
  }

  async #giveUp(row: SandboxRow, failure: Failure): Promise<SandboxRow> {
    return this.#changed(await this.#deps.store.sandboxDestroying(row, failureReason(failure), ACTOR));
  }

  #changed(row: SandboxRow): SandboxRow {
    this.#deps.onChange(row);
    return row;
  }

  #startsBy(row: SandboxRow): number {
    return Date.parse(row.created_at) + this.#deps.times.startTimeoutMs;
  }

  async #rest(attempt: number): Promise<void> {
    const { retryMs } = this.#deps.times;
    const signal = AbortSignal.any([this.#signal, this.#nudge.signal]);
    await pause(backoff(attempt, this.#deps.random, retryMs, retryMs * 32), signal);
  }
}

const AT_REST = Symbol('at rest');

function startTimeout(row: SandboxRow, what: string): Failure {
  return { code: 'session_start_timeout', detail: `${row.name} had ${what} within the time for a start` };
}
