import type { Server } from 'node:http';
import type { Logger } from 'pino';
import { pause } from './sessions/pause.ts';

/** A shutdown that is given less has so long all the same for what takes no waiting: handing over, giving back, last answers. */
const LEAST_MS = 750;
/** Of the time given, the part that is kept for giving back cells and for last answers, however long all else takes. */
const RESERVE = 1 / 4;
const MOST_RESERVE_MS = 5_000;

/**
 * One deadline for a whole shutdown. Each step gets what is left until its own end, and one that takes longer is waited for no more: it
 * counts as unfinished, is logged, and goes on for as long as the process lives.
 */
export class Closing {
  /** Of steps under way; when these are over they are cut off. */
  readonly workEndsAt: number;
  /** Of what has been cut off, to notice it. */
  readonly cutOffEndsAt: number;
  /** Of giving back what others wait for. */
  readonly givingEndsAt: number;
  readonly endsAt: number;
  readonly #limitMs: number;
  readonly #beganAt: number;
  readonly #monotonic: () => number;
  readonly #log: Logger;
  readonly #unfinished = new Set<string>();

  constructor(limitMs: number, monotonic: () => number, log: Logger) {
    this.#limitMs = limitMs;
    this.#monotonic = monotonic;
    this.#log = log;
    this.#beganAt = monotonic();
    const givenMs = Math.max(limitMs, LEAST_MS);
    const reserveMs = Math.min(givenMs * RESERVE, MOST_RESERVE_MS);
    this.endsAt = this.#beganAt + givenMs;
    this.workEndsAt = this.endsAt - reserveMs;
    this.cutOffEndsAt = this.endsAt - reserveMs * 0.6;
    this.givingEndsAt = this.endsAt - reserveMs * 0.3;
  }

  /** What did not come to its end in time, or has not yet. */
  get unfinished(): readonly string[] {
    return [...this.#unfinished];
  }

  /** What steps under way may still take: nothing where the limit is 0. */
  get graceMs(): number {
    return this.#limitMs === 0 ? 0 : this.leftMs(this.workEndsAt);
  }

  leftMs(until: number): number {
    return Math.max(0, until - this.#monotonic());
  }

  /** Resolves when the work is done or its time is over. A failure is logged, and holds up no other step. */
  async step(what: string, until: number, work: () => Promise<unknown>): Promise<void> {
    this.#unfinished.add(what);
    const enough = new AbortController();
    const done = work()
      .catch((error: unknown) => this.#log.warn({ err: error, step: what }, 'a step of the shutdown failed'))
      .then(() => {
        this.#unfinished.delete(what);
        return true;
      });
    const inTime = await Promise.race([done, pause(this.leftMs(until), enough.signal).then(() => false)]);
    enough.abort();
    if (!inTime) this.cut(what);
  }

  cut(what: string): void {
    this.#unfinished.add(what);
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
