import { CodedError } from '../errors.ts';
import type { SandboxRow } from '../store/rows.ts';
import { parseFailure } from './failures.ts';

/** What is known of one image. `openedAt` and the like are on the monotonic clock. */
export type BreakerState =
  | { kind: 'closed'; failures: number }
  /** No start until then. */
  | { kind: 'open'; until: number; pauseMs: number; why: string }
  /** One session tries; nobody else does before that has an outcome, or its time is over. */
  | { kind: 'trying'; session: string; until: number; pauseMs: number; why: string };

export interface BreakerTimes {
  /** After the third failure; twice as long after each try that fails. */
  pauseMs: number;
  mostPauseMs: number;
  /** A try has this long to tell how it went: what became of it is not heard where another controller goes on with it. */
  tryMs: number;
}

export type BreakerEvent =
  /** Somebody wants to start a sandbox. */
  | { kind: 'asked'; session: string }
  /** A sandbox of this image became ready. */
  | { kind: 'started' }
  | { kind: 'failed'; session: string; why: string }
  /** A start ended without saying anything of the image: it was stopped, or never had a machine. */
  | { kind: 'ended'; session: string };

/** Failed starts in a row that open it. */
export const MOST_FAILURES = 3;
const CLOSED: BreakerState = { kind: 'closed', failures: 0 };
/** While somebody tries, the others are asked to come back so often at least. */
const TRY_LOOK_MS = 5_000;

/** What comes of an event, and, where somebody asked, how long it has to wait: null lets it start. Pure. */
export function nextBreaker(
  state: BreakerState,
  event: BreakerEvent,
  now: number,
  times: BreakerTimes,
): { state: BreakerState; waitMs: number | null } {
  switch (event.kind) {
    case 'asked':
      return asked(state, event.session, now, times);
    case 'started':
      return { state: CLOSED, waitMs: null };
    case 'failed':
      return { state: failed(state, event, now, times), waitMs: null };
    case 'ended':
      if (state.kind !== 'trying' || state.session !== event.session) return { state, waitMs: null };
      // It told nothing: the next may try at once.
      return { state: { kind: 'open', until: now, pauseMs: state.pauseMs, why: state.why }, waitMs: null };
  }
}

function asked(
  state: BreakerState,
  session: string,
  now: number,
  times: BreakerTimes,
): { state: BreakerState; waitMs: number | null } {
  if (state.kind === 'closed') return { state, waitMs: null };
  if (state.kind === 'trying' && state.session === session) return { state, waitMs: null };
  if (now < state.until) {
    const untilThen = state.until - now;
    return { state, waitMs: state.kind === 'trying' ? Math.min(untilThen, TRY_LOOK_MS) : untilThen };
  }
  const { pauseMs, why } = state;
  return { state: { kind: 'trying', session, until: now + times.tryMs, pauseMs, why }, waitMs: null };
}

function failed(
  state: BreakerState,
  { session, why }: { session: string; why: string },
  now: number,
  { pauseMs, mostPauseMs }: BreakerTimes,
): BreakerState {
  if (state.kind === 'closed') {
    const failures = state.failures + 1;
    return failures < MOST_FAILURES
      ? { kind: 'closed', failures }
      : { kind: 'open', until: now + pauseMs, pauseMs, why };
  }
  // Of a start from before it opened: it says nothing new.
  if (state.kind === 'open' || state.session !== session) return { ...state, why };
  const longer = Math.min(mostPauseMs, state.pauseMs * 2);
  return { kind: 'open', until: now + longer, pauseMs: longer, why };
}

export interface BreakerDeps {
  /** From the row to ready, at most. */
  startTimeoutMs: number;
  /** Milliseconds that never go back. */
  monotonic: () => number;
  times?: Partial<BreakerTimes>;
}

/**
 * One circuit breaker for each image: after three starts in a row whose machine was made and whose agent never called, no more machines
 * are made of it but one at a time, until one start succeeds. What Fly refuses says nothing of the image, nor does a stop.
 */
export class Breaker {
  readonly #monotonic: () => number;
  readonly #times: BreakerTimes;
  readonly #states = new Map<string, BreakerState>();
  /** Names of sandboxes on their way to ready: each start counts once, whatever its row goes through afterwards. */
  readonly #starting = new Set<string>();

  constructor({ startTimeoutMs, monotonic, times }: BreakerDeps) {
    this.#monotonic = monotonic;
    const tryMs = startTimeoutMs + TRY_LOOK_MS;
    this.#times = { pauseMs: 30_000, mostPauseMs: 300_000, tryMs, ...times };
  }

  /**
   * To be called before a sandbox is started. Throws `image_failing` where that has to wait. `release`: nothing was started after all; of a
   * start that was, call `changed`.
   */
  guard(image: string, session: string): { release(): void } {
    const before = this.#state(image);
    const waitMs = this.#on(image, { kind: 'asked', session });
    if (waitMs !== null) throw failing(image, before, waitMs);
    const mine = this.#state(image);
    return {
      release: () => {
        if (mine !== before && this.#state(image) === mine) this.ended(image, session);
      },
    };
  }

  started(image: string): void {
    this.#on(image, { kind: 'started' });
  }

  failed(image: string, session: string, why: string): void {
    this.#on(image, { kind: 'failed', session, why });
  }

  ended(image: string, session: string): void {
    this.#on(image, { kind: 'ended', session });
  }

  /** A transition of a sandbox of this image, from its planned row on. */
  changed(image: string, row: SandboxRow): void {
    if (row.state === 'planned' || row.state === 'created') {
      this.#starting.add(row.name);
      return;
    }
    if (!this.#starting.delete(row.name)) return;
    const why = blame(row);
    if (row.state === 'ready') this.started(image);
    else if (why === null) this.ended(image, row.session_id);
    else this.failed(image, row.session_id, why);
  }

  /** For metrics. Not closed: starts of the image are held back. */
  isClosed(image: string): boolean {
    return this.#state(image).kind === 'closed';
  }

  #state(image: string): BreakerState {
    return this.#states.get(image) ?? CLOSED;
  }

  #on(image: string, event: BreakerEvent): number | null {
    const { state, waitMs } = nextBreaker(this.#state(image), event, this.#monotonic(), this.#times);
    this.#states.set(image, state);
    return waitMs;
  }
}

/** What the end of a start says against its image: a machine was made, and ended or was silent. Null: nothing. */
export function blame(row: Pick<SandboxRow, 'machine_id' | 'reason'>): string | null {
  if (row.machine_id === null) return null;
  const failure = parseFailure(row.reason);
  return failure !== null && BLAMED.has(failure.code) ? failure.detail : null;
}

const BLAMED: ReadonlySet<string> = new Set(['session_start_failed', 'session_start_timeout']);

function failing(image: string, state: BreakerState, waitMs: number): CodedError {
  const why = state.kind === 'closed' ? '' : ` The last one: ${state.why}`;
  const detail = `Starts of ${image} keep failing, so it is tried with one at a time.${why}`;
  return new CodedError('image_failing', detail, { retryAfterMs: Math.ceil(waitMs) });
}
