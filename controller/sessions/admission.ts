import type { RateLimit } from '../../fly/index.ts';
import { CodedError } from '../errors.ts';
import type { SandboxRow } from '../store/rows.ts';
import { parseFailure } from './failures.ts';

/** All that the decision about one start in one cell rests on. */
export interface StartView {
  /** Starts that were admitted before and whose machine is not made yet. */
  queued: number;
  /** Places that are kept for those who were told to come back now. */
  kept: number;
  /** Creates that may be sent at once; below zero by as many as have to wait. */
  tokens: number;
  /** Creates that Fly grants. */
  ratePerS: number;
  /** From the create's turn to ready. */
  typicalStartMs: number;
  /** From now to ready, at most. */
  deadlineMs: number;
  /** Fly has refused creates in this cell: none for so long. */
  closedMs: number;
}

/** `waitMs`: until its create's turn. */
export type StartDecision = { admitted: true; waitMs: number } | { admitted: false; retryAfterMs: number };

/** A start is given so many times what it typically takes. */
const RESERVE = 1.5;

/**
 * Whether a start that begins now can be ready in time, and otherwise in how long one could be. Where nobody waits it is tried whatever is
 * typical: how would we learn otherwise that starts have become faster?
 */
export function decideStart(view: StartView): StartDecision {
  const { queued, kept, tokens, ratePerS, typicalStartMs, deadlineMs, closedMs } = view;
  const waitMs = (Math.max(0, 1 + kept - tokens) / ratePerS) * 1000;
  const lateMs = queued + kept === 0 ? 0 : waitMs + RESERVE * typicalStartMs - deadlineMs;
  const retryAfterMs = Math.max(closedMs, lateMs);
  return retryAfterMs <= 0 ? { admitted: true, waitMs } : { admitted: false, retryAfterMs };
}

export interface AdmissionDeps {
  /** What Fly grants one cell. */
  creates: RateLimit;
  /** From the row to ready, at most. */
  startTimeoutMs: number;
  /** Milliseconds that never go back. */
  monotonic: () => number;
}

/** The cells as a start of one session finds them. */
export interface Places {
  /** 0 where the cell takes it. */
  retryAfterMs(app: string): number;
  /** See `Admission.admit`. */
  admit(app: string): { release(): void };
}

/** A cell in which Fly refuses creates is left alone so long; twice as long where it refuses again right after. */
const CLOSED_MS = 2_000;
const MOST_CLOSED_MS = 30_000;
/** Refusals of Fly that the next start would meet as well. */
const CLOSING: ReadonlySet<string> = new Set(['fly_capacity', 'fly_quota', 'fly_rate_limited']);
/** Nobody is sent away for longer than this, however many were sent away before. */
const MOST_RETRY_MS = 300_000;
const LEAST_RETRY_MS = 1_000;
/** A place is kept so long for who was told to come back. */
const KEPT_MS = 5_000;
/** What a start takes before one was seen: an image that its host does not have yet. */
const FIRST_GUESS_MS = 20_000;
/** Starts whose length is remembered; the slowest tenth of them is not counted on. */
const REMEMBERED = 50;
const COUNTED_ON = 0.9;

/** What is known of one cell; times are on the monotonic clock. */
interface Cell {
  /** Admitted, without a machine: names of sandboxes, and starts whose row is not there yet. */
  readonly queued: Map<string | symbol, { since: number; turnAt: number }>;
  tokens: number;
  countedAt: number;
  /** When the turn of each was whose machine is there and whose agent has not called yet. */
  readonly booting: Map<string, number>;
  /** Lengths of the last starts, oldest first. */
  readonly starts: number[];
  closedUntil: number;
  closedForMs: number;
  /** By session: when it was told to come back. */
  readonly promised: Map<string, number>;
}

/**
 * How many starts each cell takes: Fly grants a cell about one machine a second, so of many that come at once the last would not be ready
 * in time. Those are refused before anything is written, and told when to come back, each a turn later than the one before.
 */
export class Admission {
  readonly #deps: AdmissionDeps;
  readonly #cells = new Map<string, Cell>();

  constructor(deps: AdmissionDeps) {
    this.#deps = deps;
  }

  of(session: string): Places {
    return {
      retryAfterMs: (app) => {
        const decision = this.#decide(this.#cell(app), session);
        return decision.admitted ? 0 : decision.retryAfterMs;
      },
      admit: (app) => this.admit(app, session),
    };
  }

  /**
   * A place in the cell's queue. Throws `no_capacity` with `retryAfterMs`. Release it when the row is there, which `changed` is told of,
   * or won't be.
   */
  admit(app: string, session: string): { release(): void } {
    const cell = this.#cell(app);
    const decision = this.#decide(cell, session);
    if (!decision.admitted) throw this.#refusal(app, cell, session, decision.retryAfterMs);
    cell.promised.delete(session);
    const start = Symbol(session);
    this.#queue(cell, start);
    return {
      release: () => {
        // A row that came of it has a turn of its own; without one the turn is another's.
        if (cell.queued.delete(start)) cell.tokens += 1;
      },
    };
  }

  /** A transition of a sandbox. */
  changed(row: SandboxRow): void {
    const cell = this.#cell(row.app);
    if (row.state === 'planned') {
      this.#queue(cell, row.name);
      return;
    }
    const waited = cell.queued.get(row.name);
    cell.queued.delete(row.name);
    if (row.state === 'created') {
      if (waited !== undefined) cell.booting.set(row.name, waited.turnAt);
      cell.closedForMs = 0;
      return;
    }
    const turnAt = cell.booting.get(row.name);
    cell.booting.delete(row.name);
    if (row.state === 'ready' && turnAt !== undefined) {
      cell.starts.push(Math.max(0, this.#deps.monotonic() - turnAt));
      if (cell.starts.length > REMEMBERED) cell.starts.shift();
    }
    if (waited === undefined || row.machine_id !== null) return;
    if (CLOSING.has(parseFailure(row.reason)?.code ?? '')) this.#close(cell);
    // It ended before it had a machine: its turn is another's.
    else cell.tokens += 1;
  }

  /** A look at the whole cell: what was left unstarted by another controller waits here as well. */
  seen(app: string, sandboxes: readonly SandboxRow[]): void {
    const cell = this.#cell(app);
    const live = new Set(sandboxes.map(({ name }) => name));
    for (const name of cell.booting.keys()) if (!live.has(name)) cell.booting.delete(name);
    for (const { name, state } of sandboxes) if (state === 'planned') this.#queue(cell, name);
  }

  /** For metrics: starts that wait for their machine. */
  queued(app: string): number {
    return this.#cells.get(app)?.queued.size ?? 0;
  }

  #queue(cell: Cell, start: string | symbol): void {
    if (cell.queued.has(start)) return;
    const tokens = this.#tokens(cell);
    const since = this.#deps.monotonic();
    const turnAt = since + (Math.max(0, 1 - tokens) / this.#deps.creates.perSecond) * 1000;
    cell.queued.set(start, { since, turnAt });
    cell.tokens -= 1;
  }

  #close(cell: Cell): void {
    const now = this.#deps.monotonic();
    // Those that were under way when it closed say nothing new.
    if (now < cell.closedUntil) return;
    cell.closedForMs = Math.min(MOST_CLOSED_MS, Math.max(CLOSED_MS, cell.closedForMs * 2));
    cell.closedUntil = now + cell.closedForMs;
  }

  #decide(cell: Cell, session: string): StartDecision {
    const now = this.#deps.monotonic();
    const { promised } = cell;
    for (const [id, at] of promised) if (at + KEPT_MS <= now) promised.delete(id);
    const due = [...promised.values()].filter((at) => at <= now).length;
    const isDue = (promised.get(session) ?? Number.POSITIVE_INFINITY) <= now;
    const tokens = this.#tokens(cell);
    return decideStart({
      queued: cell.queued.size,
      kept: isDue ? 0 : due,
      tokens,
      ratePerS: this.#deps.creates.perSecond,
      typicalStartMs: this.#typicalMs(cell),
      deadlineMs: this.#deps.startTimeoutMs,
      closedMs: cell.closedUntil - now,
    });
  }

  /** Refilled as Fly does it. Each that waits still has to have one, however long it has waited. */
  #tokens(cell: Cell): number {
    const { creates, startTimeoutMs } = this.#deps;
    const now = this.#deps.monotonic();
    // Nobody waits longer than a start may take: what became of it was not told here.
    for (const [start, { since }] of cell.queued) {
      if (typeof start === 'string' && now - since > startTimeoutMs) cell.queued.delete(start);
    }
    const grown = ((now - cell.countedAt) / 1000) * creates.perSecond;
    cell.tokens = Math.min(creates.burst - cell.queued.size, cell.tokens + grown);
    cell.countedAt = now;
    return cell.tokens;
  }

  #typicalMs({ starts }: Cell): number {
    if (starts.length === 0) return Math.min(FIRST_GUESS_MS, this.#deps.startTimeoutMs / 4);
    const sorted = starts.toSorted((a, b) => a - b);
    return sorted[Math.floor((sorted.length - 1) * COUNTED_ON)]!;
  }

  /** One place comes free with each turn: who asks again before its time is told the same time, whoever is new a later one. */
  #refusal(app: string, cell: Cell, session: string, retryAfterMs: number): CodedError {
    const now = this.#deps.monotonic();
    const { promised } = cell;
    const told = promised.get(session);
    const turnMs = 1000 / this.#deps.creates.perSecond;
    // Turns are not on time to the millisecond.
    const soonest = now + Math.max(LEAST_RETRY_MS, retryAfterMs + turnMs);
    let at =
      told ?? Math.min(now + MOST_RETRY_MS, Math.max(soonest, Math.max(...promised.values()) + turnMs));
    // It came when it was told to: not behind the others again.
    if (at <= now) at = soonest;
    promised.set(session, at);
    const why = cell.closedUntil > now ? 'Fly refuses machines in it, and ' : '';
    const detail = `The cell ${app} takes no start now: ${why}${cell.queued.size} wait for a machine`;
    return new CodedError('no_capacity', detail, { retryAfterMs: Math.ceil(at - now) });
  }

  #cell(app: string): Cell {
    const known = this.#cells.get(app);
    if (known !== undefined) return known;
    const cell: Cell = {
      queued: new Map(),
      tokens: this.#deps.creates.burst,
      countedAt: this.#deps.monotonic(),
      booting: new Map(),
      starts: [],
      closedUntil: Number.NEGATIVE_INFINITY,
      closedForMs: 0,
      promised: new Map(),
    };
    this.#cells.set(app, cell);
    return cell;
  }
}
