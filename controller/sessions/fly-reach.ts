import { Gauge, type Registry } from 'prom-client';
import type { FlyErrorKind } from '../../fly/index.ts';
import { pause } from './pause.ts';

export interface FlyReachTimes {
  /** So long without any answer of Fly's, and this controller calls itself unable. */
  unableAfterMs: number;
  /** How often it is asked while it does not answer. */
  askAgainMs: number;
  /** How often it is asked where nothing else was. */
  askIdleMs: number;
}

export interface FlyReachDeps {
  /** Milliseconds that never go back. */
  monotonic: () => number;
  /** Any call of Fly that says whether it answers; its outcome comes by `saw`. */
  ask: () => Promise<unknown>;
  times?: Partial<FlyReachTimes>;
}

const TIMES: FlyReachTimes = { unableAfterMs: 60_000, askAgainMs: 5_000, askIdleMs: 30_000 };
/** It did not answer, or something on the way did instead. Any other refusal is Fly's own word. */
const NO_ANSWER: ReadonlySet<FlyErrorKind> = new Set(['platform', 'unknown_outcome']);
/** Says nothing: the token is at fault. */
const NEITHER: FlyErrorKind = 'auth';

/**
 * Whether this controller reaches Fly, told by what its calls come to: when each for a minute has failed for want of an answer, another controller
 * may do better. One answer, and it is able again.
 */
export class FlyReach {
  readonly #deps: FlyReachDeps;
  readonly #times: FlyReachTimes;
  readonly #ended = new AbortController();
  #lastAt: number;
  /** Of the first and the last failure since the last answer. */
  #failing: { since: number; until: number } | undefined;

  constructor(deps: FlyReachDeps) {
    this.#deps = deps;
    this.#times = { ...TIMES, ...deps.times };
    this.#lastAt = deps.monotonic();
  }

  /** True until the failures themselves span the time: one of long ago says nothing about now. */
  get able(): boolean {
    return (
      this.#failing === undefined || this.#failing.until - this.#failing.since < this.#times.unableAfterMs
    );
  }

  /** Of each try of each call. */
  saw({ error }: { error: FlyErrorKind | undefined }): void {
    const now = this.#deps.monotonic();
    this.#lastAt = now;
    if (error === NEITHER) return;
    this.#failing =
      error !== undefined && NO_ANSWER.has(error)
        ? { since: this.#failing?.since ?? now, until: now }
        : undefined;
  }

  /** Asks by itself where nobody else does: whoever has no cell is to know as well whether it could do better. */
  start(): void {
    void this.#run();
  }

  stop(): void {
    this.#ended.abort();
  }

  async #run(): Promise<void> {
    const { signal } = this.#ended;
    while (!signal.aborted) {
      const { askAgainMs, askIdleMs } = this.#times;
      const every = this.#failing === undefined ? askIdleMs : askAgainMs;
      const left = this.#lastAt + every - this.#deps.monotonic();
      if (left <= 0) {
        await this.#deps.ask().catch(() => undefined);
        await pause(1, signal);
      } else await pause(Math.min(left, askAgainMs), signal);
    }
  }
}

export function watchReach(registry: Registry, reach: Pick<FlyReach, 'able'>): void {
  new Gauge({
    name: 'mobvibe_fly_able',
    help: '0 while this controller has not reached Fly for a minute',
    registers: [registry],
    collect() {
      this.set(reach.able ? 1 : 0);
    },
  });
}
