import type { Logger } from 'pino';
import type { AgentHub } from '../agents/hub.ts';
import type { Config } from '../config.ts';
import type { Store } from '../store/index.ts';
import type { SandboxRow } from '../store/rows.ts';
import type { Cells } from './cells.ts';
import { failureReason, machineLost } from './failures.ts';
import { hasEnded, type Machines, type MachineView } from './machines.ts';
import { pause } from './pause.ts';
import { type Action, type Looks, lookAgain, NO_LOOKS, plan, type View } from './plan.ts';

export interface CleanupDeps {
  store: Store;
  machines: Machines;
  cells: Cells;
  hub: AgentHub;
  config: Pick<Config, 'sandboxMaxAgeMs' | 'cleanupIntervalMs'>;
  times: { lookApartMs: number; unknownGraceMs: number; destroyWaitMs: number };
  /** Names of the sandboxes that have a worker. */
  busy(): ReadonlySet<string>;
  drive(row: SandboxRow): Promise<void>;
  stop(row: SandboxRow, reason: string): Promise<unknown>;
  changed(row: SandboxRow): void;
  /** Told of all rows of a cell after each look. */
  seen(app: string, sandboxes: readonly SandboxRow[]): void;
  log: Logger;
  clock: () => number;
}

/** After an agent was lost its machine is looked at so often, `lookApartMs` apart; the regular clean-up goes on from there. */
const SUSPICIOUS_LOOKS = 5;
/** A destroy takes seconds. */
const DESTROY_OVERDUE_MS = 60_000;
const ACTOR = 'lifecycle';

export interface SandboxCounts {
  /** Being destroyed for longer than that takes. */
  destroying: number;
  unresponsive: number;
}

/** Looks at all rows and machines of each cell now and then, and does what `plan` says. A cell that does not answer holds up no other. */
export class Cleanup {
  readonly #deps: CleanupDeps;
  readonly #underway = new Set<Promise<unknown>>();
  readonly #suspected = new Set<string>();
  /** By cell. */
  readonly #looks = new Map<string, Looks>();
  readonly #seen = new Map<string, readonly SandboxRow[]>();
  readonly #looking = new Set<string>();
  /** Since when (Unix ms) a closed cell was seen empty. */
  readonly #empty = new Map<string, number>();
  #ended: AbortController | undefined;
  #loop: Promise<void> | undefined;

  constructor(deps: CleanupDeps) {
    this.#deps = deps;
  }

  /** As of the last look at each cell: what somebody on call should know of. */
  get counts(): SandboxCounts {
    const rows = this.#deps.cells.apps.flatMap((app) => this.#seen.get(app) ?? []);
    const overdue = this.#deps.clock() - DESTROY_OVERDUE_MS;
    return {
      destroying: rows.filter(
        ({ state, updated_at }) => state === 'destroying' && Date.parse(updated_at) < overdue,
      ).length,
      unresponsive: rows.filter(
        ({ state, unresponsive_since }) => state === 'ready' && unresponsive_since !== null,
      ).length,
    };
  }

  /** First look at once: it takes up whatever an earlier controller left unfinished. */
  start(): void {
    if (this.#loop !== undefined) return;
    this.#ended = new AbortController();
    const { signal } = this.#ended;
    this.#loop = this.#run(signal);
    // Its holder before may have left anything unfinished.
    const look = (app: string) => this.#look(app, signal);
    this.#deps.cells.on('held', look);
    signal.addEventListener('abort', () => this.#deps.cells.off('held', look), { once: true });
  }

  async stop(): Promise<void> {
    this.#ended?.abort();
    await this.#loop;
    await Promise.all(this.#underway);
    this.#loop = undefined;
  }

  /** The agent of a ready sandbox went away: is its machine gone, or only the connection? */
  suspect(name: string): void {
    const signal = this.#ended?.signal;
    if (signal === undefined || signal.aborted || this.#suspected.has(name)) return;
    this.#suspected.add(name);
    this.#track(this.#watch(name, signal).finally(() => this.#suspected.delete(name)));
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      for (const app of this.#deps.cells.apps) this.#look(app, signal);
      await pause(this.#deps.config.cleanupIntervalMs, signal);
    }
  }

  #look(app: string, signal: AbortSignal): void {
    if (signal.aborted || this.#looking.has(app)) return;
    this.#looking.add(app);
    this.#track(this.#lookAt(app, signal).finally(() => this.#looking.delete(app)));
  }

  async #lookAt(app: string, signal: AbortSignal): Promise<void> {
    const view = await this.#view(app, signal);
    if (signal.aborted || !this.#deps.cells.holds(app)) return;
    const now = this.#deps.clock();
    const limits = { ...this.#deps.times, maxAgeMs: this.#deps.config.sandboxMaxAgeMs };
    const looks = lookAgain(this.#looks.get(app) ?? NO_LOOKS, view, now);
    this.#looks.set(app, looks);
    for (const action of plan(view, looks, now, limits)) this.#track(this.#carryOut(app, action));
    this.#deps.cells.seen(app, view.sandboxes, view.machines !== null);
    this.#deps.seen(app, view.sandboxes);
    this.#seen.set(app, view.sandboxes);
    await this.#forgetIfEmpty(app, view, now);
  }

  /** An empty list alone is no proof: a closed cell is forgotten when two looks have found nothing in it. */
  async #forgetIfEmpty(app: string, { sandboxes, machines }: View, now: number): Promise<void> {
    const isEmpty = sandboxes.length === 0 && machines?.length === 0;
    if (!isEmpty || !this.#deps.cells.isClosed(app)) return void this.#empty.delete(app);
    const since = this.#empty.get(app) ?? now;
    this.#empty.set(app, since);
    if (now - since < this.#deps.times.lookApartMs) return;
    await this.#deps.cells.forget(app);
    this.#empty.delete(app);
    this.#looks.delete(app);
    this.#deps.log.info({ app }, 'closed cell is empty and forgotten');
  }

  /** Machines before rows: a row comes before its machine, so no machine of this list can be older than the rows know. */
  async #view(app: string, signal: AbortSignal): Promise<View> {
    const { machines, store, hub, log, busy } = this.#deps;
    const listed = await machines.list(app, signal).catch((error: unknown) => {
      if (!signal.aborted) log.warn({ app, err: error }, 'machines could not be listed');
      return null;
    });
    const sandboxes = await store.listLiveSandboxes(app);
    return {
      sandboxes,
      machines: listed?.filter((machine) => machines.isOurs(machine)) ?? null,
      connected: new Set(sandboxes.map(({ name }) => name).filter((name) => hub.get(name) !== undefined)),
      busy: busy(),
    };
  }

  async #carryOut(app: string, action: Action): Promise<unknown> {
    switch (action.type) {
      case 'drive':
        // Not waited for: a worker has its own time, and reads the row anew.
        void this.#deps.drive(action.sandbox);
        return;
      case 'stop':
        return this.#deps.stop(action.sandbox, action.reason);
      case 'confirm_lost':
        return this.#confirmLost(action.sandbox);
      case 'destroy_unknown':
        return this.#destroyUnknown(app, action.machine);
    }
  }

  /** Two looks have missed the machine; Fly's word about it alone is what counts. */
  async #confirmLost(row: SandboxRow): Promise<void> {
    if (this.#deps.hub.get(row.name) !== undefined) return;
    const machine = await this.#deps.machines.get(row.app, row.machine_id!);
    if (hasEnded(machine)) await this.#declareLost(row, machine);
  }

  async #declareLost(row: SandboxRow, machine: MachineView | null): Promise<void> {
    const what = `Machine ${row.machine_id} ended; files since the last save are lost`;
    const reason = failureReason(machineLost(machine, what));
    const now = await this.#deps.store.sandboxDestroying(row, reason, ACTOR);
    this.#deps.changed(now);
    void this.#deps.drive(now);
  }

  async #watch(name: string, signal: AbortSignal): Promise<void> {
    let ended = 0;
    for (let look = 0; look < SUSPICIOUS_LOOKS; look++) {
      await pause(this.#deps.times.lookApartMs, signal);
      if (signal.aborted || this.#deps.hub.get(name) !== undefined) return;
      const row = await this.#deps.store.findSandbox(name);
      // In any other state a worker is at it.
      if (row === null || row.state !== 'ready' || !this.#deps.cells.holds(row.app)) return;
      const machine = await this.#deps.machines.get(row.app, row.machine_id!);
      ended = hasEnded(machine) ? ended + 1 : 0;
      if (ended >= 2) return this.#declareLost(row, machine);
    }
  }

  /** Looks once more, at the machine itself and at its row, before anything is done that can't be undone. */
  async #destroyUnknown(app: string, listed: MachineView): Promise<void> {
    const { machines, store, log } = this.#deps;
    const machine = await machines.get(app, listed.id);
    if (machine === null || machine.state !== listed.state || !machines.isOurs(machine)) return;
    const row = await store.findSandbox(machine.name!);
    const wanted = row !== null && row.state !== 'gone' && (row.machine_id ?? machine.id) === machine.id;
    if (wanted) return;
    log.warn(
      { app, machine: machine.id, sandbox: machine.name, state: machine.state },
      'destroying a machine that no row wants',
    );
    await machines.destroy(app, machine.id, {
      waitMs: this.#deps.times.destroyWaitMs,
      signal: AbortSignal.timeout(DESTROY_TIMEOUT_MS),
    });
  }

  #track(work: Promise<unknown>): void {
    const tracked = work
      .catch((error: unknown) => this.#deps.log.warn({ err: error }, 'clean-up action failed'))
      .finally(() => this.#underway.delete(tracked));
    this.#underway.add(tracked);
  }
}

const DESTROY_TIMEOUT_MS = 40_000;
