import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import type { Config } from '../config.ts';
import type { Cells } from '../sessions/cells.ts';
import type { SandboxLifecycle } from '../sessions/lifecycle.ts';
import { pause } from '../sessions/pause.ts';
import type { Store } from '../store/index.ts';
import type { JobRow } from '../store/rows.ts';
import { JobRun } from './run.ts';

export interface JobDeps {
  store: Store;
  lifecycle: SandboxLifecycle;
  cells: Cells;
  config: Pick<Config, 'jobPollMs' | 'jobLeaseMs' | 'jobsAtOnce' | 'execTimeoutMs' | 'startTimeoutMs'>;
  log: Logger;
  clock: () => number;
  random: () => number;
}

/**
 * Claims jobs and runs each in its session's sandbox. A claim is a lease: a controller that dies loses its jobs to the next one,
 * which attaches to those that have started and starts those that provably have not.
 */
export class JobProcessor {
  readonly #deps: JobDeps;
  readonly #owner = `controller-${randomUUID()}`;
  readonly #running = new Map<string, { run: JobRun; done: Promise<void> }>();
  #stopping = new AbortController();
  #poked = new AbortController();
  #loop: Promise<void> | undefined;

  constructor(deps: JobDeps) {
    this.#deps = deps;
    deps.cells.on('held', () => this.#poked.abort());
    // Its sandbox is another controller's now, who will follow it.
    deps.cells.on('moved', (app) => {
      for (const { run } of this.#running.values()) if (run.app === app) run.handOver();
    });
  }

  start(): void {
    if (this.#loop !== undefined) return;
    this.#stopping = new AbortController();
    this.#loop = this.#claim(this.#stopping.signal);
  }

  /** There may be something new: a job was queued, or one is to be cancelled. */
  poke(): void {
    this.#poked.abort();
    for (const { run } of this.#running.values()) run.beat();
  }

  /** Claims no more and hands over what runs: the execs go on, and the next claimer attaches to them at once. */
  async shutdown(): Promise<void> {
    this.#stopping.abort();
    for (const { run } of this.#running.values()) run.handOver();
    // What a claim under way still brings is handed over as it comes.
    await this.#loop;
    this.#loop = undefined;
    await Promise.all([...this.#running.values()].map(({ done }) => done));
  }

  async #claim(signal: AbortSignal): Promise<void> {
    const { store, cells, config, log, random } = this.#deps;
    while (!signal.aborted) {
      this.#poked = new AbortController();
      const free = config.jobsAtOnce - this.#running.size;
      let claimed: JobRow[] = [];
      const { apps } = cells;
      if (free > 0 && apps.length > 0) {
        claimed = await store
          .claimJobs(this.#owner, config.jobLeaseMs, free, apps)
          .catch((error: unknown) => {
            log.warn({ err: error }, 'jobs could not be claimed');
            return [];
          });
      }
      for (const job of claimed) this.#begin(job);
      // Whatever had to wait for one of these, say the next of the same session, pokes when it ends.
      await pause(config.jobPollMs * (0.75 + 0.5 * random()), AbortSignal.any([signal, this.#poked.signal]));
    }
  }

  #begin(job: JobRow): void {
    // Claimed again while an older claim of ours still runs: that one is fenced and ends by itself.
    this.#running.get(job.id)?.run.abandon();
    const run = new JobRun(this.#deps, job);
    if (this.#stopping.signal.aborted) run.handOver();
    const done = run
      .run()
      .catch((error: unknown) => this.#deps.log.warn({ job: job.id, err: error }, 'job was let go'))
      .finally(() => {
        if (this.#running.get(job.id)?.run === run) this.#running.delete(job.id);
        this.#poked.abort();
      });
    this.#running.set(job.id, { run, done });
  }
}
