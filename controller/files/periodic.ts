import type { EventEmitter } from 'node:events';
import type { Logger } from 'pino';
import type { AgentHub } from '../agents/hub.ts';
import { CodedError, type ErrorCode } from '../errors.ts';
import type { Cells } from '../sessions/cells.ts';
import { pause } from '../sessions/pause.ts';
import type { Store } from '../store/index.ts';
import type { SandboxRow } from '../store/rows.ts';
import { saveRetryMs } from './retry.ts';
import type { WorkspaceFiles } from './workspace.ts';

export interface PeriodicSaveDeps {
  store: Pick<Store, 'listLiveSandboxes'>;
  hub: Pick<AgentHub, 'waitFor'>;
  files: Pick<WorkspaceFiles, 'save' | 'ledger'>;
  cells: Pick<Cells, 'apps' | 'holds' | 'signal'>;
  /** Every transition made by this process. */
  changes: EventEmitter<{ change: [row: SandboxRow] }>;
  config: { saveIntervalMs: number };
  log: Logger;
  clock: () => number;
  random: () => number;
}

interface Kept {
  ended: AbortController;
  done: Promise<void>;
}

/** However long a save takes, this share of the interval lies between two. */
const LEAST_REST = 0.1;

/**
 * Saves every open workspace now and then: what a machine that dies suddenly loses is no older than the interval. Each sandbox has its own
 * time and waits for none of the others; a save that fails is tried again as its failure allows.
 */
export class PeriodicSave {
  readonly #deps: PeriodicSaveDeps;
  readonly #kept = new Map<string, Kept>();
  /** Sandboxes that moved since the look under way began: its list may be older than that. */
  readonly #moved = new Set<string>();
  /** No save begins any more; those under way are broken off. */
  #closing = new AbortController();
  #cut = new AbortController();
  #loop: Promise<void> | undefined;

  constructor(deps: PeriodicSaveDeps) {
    this.#deps = deps;
  }

  start(): void {
    if (this.#loop !== undefined) return;
    this.#closing = new AbortController();
    this.#cut = new AbortController();
    this.#deps.changes.on('change', this.#onChange);
    this.#loop = this.#run(this.#closing.signal);
  }

  /** Waits for the saves under way, `graceMs` at most: one that is cut off has changed nothing. */
  async stop(graceMs: number): Promise<void> {
    this.#deps.changes.off('change', this.#onChange);
    this.#closing.abort();
    const enough = new AbortController();
    const all = Promise.all([this.#loop, ...[...this.#kept.values()].map(({ done }) => done)]);
    await Promise.race([all, pause(graceMs, enough.signal)]);
    enough.abort();
    this.#cut.abort(new CodedError('shutting_down', 'This controller is shutting down'));
    this.#kept.clear();
    this.#loop = undefined;
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#look(signal);
      await pause(this.#deps.config.saveIntervalMs / 2, signal);
    }
  }

  /** Finds what other controllers, or an earlier one, have opened. */
  async #look(signal: AbortSignal): Promise<void> {
    const { store, cells, files, log, clock } = this.#deps;
    this.#moved.clear();
    const known = [...this.#kept.keys()];
    const lists = await Promise.all(
      cells.apps.map((app) =>
        store.listLiveSandboxes(app).then(
          (rows) => [app, rows] as const,
          (error: unknown) => {
            log.warn({ app, err: error }, 'workspaces could not be listed');
            return null;
          },
        ),
      ),
    );
    if (signal.aborted) return;
    const listed = new Map(lists.flatMap((list) => (list === null ? [] : [list])));
    const live = new Map([...listed.values()].flat().map((row) => [row.name, row]));
    for (const row of live.values()) {
      if (this.#moved.has(row.name)) continue;
      if (row.state === 'ready') this.#keep(row);
      if (row.state === 'ready' || row.state === 'stopping') files.ledger.open(row, clock());
    }
    const complete = lists.every((list) => list !== null);
    for (const name of complete ? known : []) {
      if (!this.#moved.has(name) && live.get(name)?.state !== 'ready') this.#end(name);
    }
    const unsaved = (name: string) => ['ready', 'stopping'].includes(live.get(name)?.state ?? 'gone');
    files.ledger.keep(
      (name, app) => cells.holds(app) && (!listed.has(app) || this.#moved.has(name) || unsaved(name)),
    );
  }

  readonly #onChange = (row: SandboxRow): void => {
    this.#moved.add(row.name);
    if (row.state === 'ready') {
      this.#deps.files.ledger.open(row, this.#deps.clock());
      this.#keep(row);
      return;
    }
    // A stop saves by itself, and must not wait for a save that it does not need.
    this.#end(row.name);
    if (row.state === 'destroying' || row.state === 'gone') this.#deps.files.ledger.forget(row.name);
  };

  #keep(row: SandboxRow): void {
    if (this.#closing.signal.aborted || this.#kept.has(row.name)) return;
    const ended = new AbortController();
    const done = this.#saveOn(row, AbortSignal.any([ended.signal, this.#deps.cells.signal(row.app)]));
    const kept = { ended, done };
    this.#kept.set(row.name, kept);
    void done.then(() => {
      if (this.#kept.get(row.name) === kept) this.#kept.delete(row.name);
    });
  }

  #end(name: string): void {
    this.#kept.get(name)?.ended.abort(new CodedError('fenced', `${name} is not open any more`));
    this.#kept.delete(name);
  }

  /** `over`: the sandbox is not ready any more, or another controller's. Never rejects. */
  async #saveOn(row: SandboxRow, over: AbortSignal): Promise<void> {
    const { hub, files, config, clock, random } = this.#deps;
    const idle = AbortSignal.any([over, this.#closing.signal]);
    const busy = AbortSignal.any([over, this.#cut.signal]);
    // A look finds it after half an interval at most.
    let restMs = (config.saveIntervalMs / 2) * random();
    for (let failures = 0; ; ) {
      await pause(restMs, idle);
      // An agent that is not there can't be asked; that it is missing is told by others.
      while (!idle.aborted && !(await this.#isConnected(hub, row.name, idle)));
      if (idle.aborted) return;
      const startedAt = clock();
      try {
        await files.save(row, { signal: busy });
        failures = 0;
        const everyMs = config.saveIntervalMs * (0.8 + 0.2 * random());
        restMs = Math.max(config.saveIntervalMs * LEAST_REST, everyMs - (clock() - startedAt));
      } catch (error) {
        if (busy.aborted) return;
        failures += 1;
        const code: ErrorCode = error instanceof CodedError ? error.code : 'internal';
        restMs = saveRetryMs(code, failures, random);
      }
    }
  }

  async #isConnected(hub: PeriodicSaveDeps['hub'], name: string, signal: AbortSignal): Promise<boolean> {
    const wait = { timeoutMs: this.#deps.config.saveIntervalMs, signal };
    return hub.waitFor(name, wait).then(
      () => true,
      () => false,
    );
  }
}
