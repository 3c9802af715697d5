import type { Server } from 'node:http';
import type { Logger } from 'pino';
import { pause } from './sessions/pause.ts';

/** A shutdown that is given less has so long all the same for what takes no waiting: handing over, giving back, last answers. */
const LEAST_MS = 750;
/** Of the time given, the part that is kept for giving back cells and for last answers, however long all else takes. */
const RESERVE = 1 / 3;
const MOST_RESERVE_MS = 5_000;

/**
 * One deadline for a whole shutdown. Each step gets what is left until its own end, and one that takes longer is waited for no more: it
 * counts as unfinished, is logged, and goes on for as long as the process lives.
 */
export class Closing {
  /** Of steps under way; when these are over they are cut off. */
  readonly workEndsAt: number;
  /** Of giving back what others wait for; what has been cut off has the same time to notice it. */
  readonly givingEndsAt: number;
  readonly endsAt: number;
  readonly #limitMs: number;
  readonly #beganAt: number;
  readonly #monotonic: () => number;
  readonly #log: Logger;
  readonly #underway = new Set<string>();
  readonly #cut = new Set<string>();

  constructor(limitMs: number, monotonic: () => number, log: Logger) {
    this.#limitMs = limitMs;
    this.#monotonic = monotonic;
    this.#log = log;
    this.#beganAt = monotonic();
    const givenMs = Math.max(limitMs, LEAST_MS);
    const reserveMs = Math.min(givenMs * RESERVE, MOST_RESERVE_MS);
    this.endsAt = this.#beganAt + givenMs;
    this.workEndsAt = this.endsAt - reserveMs;
    this.givingEndsAt = this.endsAt - reserveMs / 5;
  }

  /** What did not come to its end in time, or has not yet. */
  get unfinished(): readonly string[] {
    return [...new Set([...this.#cut, ...this.#underway])];
  }

  /** What steps under way may still take: nothing where the limit is 0. */
  get graceMs(): number {
    return this.#limitMs === 0 ? 0 : this.leftMs(this.workEndsAt);
  }

  leftMs(until: number): number {
    return Math.max(0, until - this.#monotonic());
  }

  /** Resolves when the work is done or its time is over; in that case it counts as cut, whatever comes of it. A failure is logged, and holds up no other step. */
  async step(what: string, until: number, work: () => Promise<unknown>): Promise<void> {
    this.#underway.add(what);
    const done = work()
      .catch((error: unknown) => this.#log.warn({ err: error, step: what }, 'a step of the shutdown failed'))
      .then(() => this.#underway.delete(what));
    if (!(await this.within(until, done))) this.cut(what);
  }

  /** Whether the work came to its end in time. */
  async within(until: number, work: Promise<unknown>): Promise<boolean> {
    const enough = new AbortController();
    const late = pause(this.leftMs(until), enough.signal).then(() => false);
    const inTime = await Promise.race([work.then(() => true), late]);
    enough.abort();
    return inTime;
  }

  cut(what: string): void {
    this.#cut.add(what);
    const ms = Math.round(this.#monotonic() - this.#beganAt);
    this.#log.warn({ step: what, ms, limitMs: this.#limitMs }, 'shutdown does not wait for this any longer');
  }
}

/** Requests of a server that have no whole answer yet. */
export function countOpenRequests(server: Server): () => number {
  let open = 0;
  server.on('request', (_request, response) => {
    open += 1;
    response.once('close', () => {
      open -= 1;
    });
  });
  return () => open;
}
