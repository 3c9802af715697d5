import type { Logger } from 'pino';
import type { AgentHub } from '../agents/hub.ts';
import { CodedError } from '../errors.ts';
import type { Cells } from '../sessions/cells.ts';
import { pause } from '../sessions/pause.ts';
import type { Store } from '../store/index.ts';
import type { WorkspaceFiles } from './workspace.ts';

export interface PeriodicSaveDeps {
  store: Store;
  hub: AgentHub;
  files: WorkspaceFiles;
  cells: Cells;
  config: { saveIntervalMs: number };
  log: Logger;
}

/** Each save is a walk in a machine of its own, but signing and committing go through one database. */
const AT_ONCE = 4;

/** Saves every open workspace now and then: what a machine that dies suddenly loses is no older than the interval. */
export class PeriodicSave {
  readonly #deps: PeriodicSaveDeps;
  #ended: AbortController | undefined;
  #loop: Promise<void> | undefined;

  constructor(deps: PeriodicSaveDeps) {
    this.#deps = deps;
  }

  start(): void {
    if (this.#loop !== undefined) return;
    this.#ended = new AbortController();
    this.#loop = this.#run(this.#ended.signal);
  }

  /** Waits for the saves under way, `graceMs` at most: one that is cut off has changed nothing. */
  async stop(graceMs: number): Promise<void> {
    this.#ended?.abort();
    const enough = new AbortController();
    await Promise.race([this.#loop, pause(graceMs, enough.signal)]);
    enough.abort();
    this.#loop = undefined;
  }

  async #run(signal: AbortSignal): Promise<void> {
    for (;;) {
      await pause(this.#deps.config.saveIntervalMs, signal);
      if (signal.aborted) return;
      await this.#saveAll(signal);
    }
  }

  async #saveAll(signal: AbortSignal): Promise<void> {
    const { store, hub, files, cells, log } = this.#deps;
    const live = await Promise.all(
      cells.apps.map((app) =>
        store.listLiveSandboxes(app).catch((error: unknown) => {
          log.warn({ app, err: error }, 'workspaces could not be listed');
          return [];
        }),
      ),
    );
    const due = live.flat().filter(({ name, state }) => state === 'ready' && hub.get(name) !== undefined);
    const saveNext = async (): Promise<void> => {
      for (let row = due.pop(); row !== undefined && !signal.aborted; row = due.pop()) {
        const { name } = row;
        await files.save(row).catch((error: unknown) => {
          // A stop that came in between saves by itself.
          const passed = error instanceof CodedError && ['fenced', 'agent_unreachable'].includes(error.code);
          log[passed ? 'debug' : 'warn']({ sandbox: name, err: error }, 'periodic save failed');
        });
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, saveNext));
  }
}
