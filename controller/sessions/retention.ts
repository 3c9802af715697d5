import type { Logger } from 'pino';
import type { Config } from '../config.ts';
import type { Store } from '../store/index.ts';
import type { Cells } from './cells.ts';
import { pause } from './pause.ts';

export interface RetentionDeps {
  store: Pick<Store, 'purge'>;
  cells: Pick<Cells, 'apps'>;
  config: Pick<Config, 'retentionMs'>;
  log: Logger;
  random: () => number;
}

const EVERY_MS = 600_000;
/** Of one call: far less than a statement may take. */
const BATCH_ROWS = 1_000;
/** Between two batches, so that others have their turn. */
const BREATH_MS = 50;

/** Removes what is older than it is kept, now and then, in batches. Whoever works for any cell does it: twice does no harm. */
export class Retention {
  readonly #deps: RetentionDeps;
  readonly #everyMs: number;
  readonly #ended = new AbortController();
  #loop: Promise<void> | undefined;

  constructor(deps: RetentionDeps, everyMs = EVERY_MS) {
    this.#deps = deps;
    this.#everyMs = everyMs;
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#ended.abort();
    await this.#loop;
  }

  /** Batch after batch, until one comes back short. Answers how many rows were removed. */
  async purge(): Promise<number> {
    const { store, config, cells } = this.#deps;
    for (let removed = 0; ; ) {
      const count = await store.purge(config.retentionMs, BATCH_ROWS);
      removed += count;
      if (count < BATCH_ROWS || this.#ended.signal.aborted || cells.apps.length === 0) return removed;
      await pause(BREATH_MS, this.#ended.signal);
    }
  }

  async #run(): Promise<void> {
    const { cells, log, random } = this.#deps;
    const { signal } = this.#ended;
    while (!signal.aborted) {
      // Controllers that were started together do not do it together.
      await pause(this.#everyMs * (0.5 + random()), signal);
      if (signal.aborted || cells.apps.length === 0) continue;
      try {
        const removed = await this.purge();
        if (removed > 0) log.info({ removed }, 'old rows were removed');
      } catch (error) {
        log.warn({ err: error }, 'old rows could not be removed');
      }
    }
  }
}
