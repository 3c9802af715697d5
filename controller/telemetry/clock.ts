import type { Logger } from 'pino';
import { Gauge, type Registry } from 'prom-client';

export interface DatabaseClockDeps {
  /** Milliseconds that never go back, whatever the computer's clock is set to. */
  monotonic: () => number;
  /** The computer's own clock, Unix milliseconds. */
  local: () => number;
  log?: Logger;
}

/** A computer's clock that is this far off is told of, and again when it has changed by so much. */
const SKEW_MS = 5_000;

/**
 * The time of the database, by which rows are written and judged: so that a computer whose clock is wrong acts at the right time all the same.
 * Between two answers it is counted by the monotonic clock. Each answer says that it was a certain time between question and answer: the
 * clock is moved only as far as that contradicts it, so that a slow answer moves nothing. Before the first it is the computer's own.
 */
export class DatabaseClock {
  readonly #deps: DatabaseClockDeps;
  /** Database's time less the monotonic clock. */
  #offset: number | undefined;
  #skewMs = 0;
  #toldMs = 0;

  constructor(deps: DatabaseClockDeps) {
    this.#deps = deps;
  }

  /** By how much the computer's clock is ahead of the database's, at the last answer. */
  get skewMs(): number {
    return this.#skewMs;
  }

  /** Unix milliseconds. */
  now(): number {
    return this.#offset === undefined ? this.#deps.local() : this.#deps.monotonic() + this.#offset;
  }

  /** The database said that it is `databaseNow` to a question between these times on the monotonic clock. */
  set(databaseNow: number, askedAtMonotonic: number, answeredAtMonotonic: number): void {
    const least = databaseNow - answeredAtMonotonic;
    const most = databaseNow - askedAtMonotonic;
    if (!Number.isFinite(least) || !Number.isFinite(most) || least > most) return;
    this.#offset =
      this.#offset === undefined ? (least + most) / 2 : Math.min(most, Math.max(least, this.#offset));
    this.#skewMs = this.#deps.local() - this.now();
    this.#tell();
  }

  #tell(): void {
    const skewMs = Math.round(this.#skewMs);
    if (Math.abs(skewMs - this.#toldMs) < SKEW_MS) return;
    this.#toldMs = skewMs;
    const off = Math.abs(skewMs) >= SKEW_MS;
    if (off) this.#deps.log?.warn({ skewMs }, "this computer's clock is off; times are the database's");
    else this.#deps.log?.info({ skewMs }, "this computer's clock is right again");
  }
}

export function watchClock(registry: Registry, clock: Pick<DatabaseClock, 'skewMs'>): void {
  new Gauge({
    name: 'mobvibe_clock_skew_seconds',
    help: "By how much this computer's clock is ahead of the database's",
    registers: [registry],
    collect() {
      this.set(clock.skewMs / 1000);
    },
  });
}
