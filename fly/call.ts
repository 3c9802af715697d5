import { describe, readAnswer, redact } from './answer.ts';
import { classify, type Effect, type Failure } from './classify.ts';
import { type FlyError, type FlyErrorFields, type FlyErrorKind, flyError } from './errors.ts';
import type { Wire, WireOutcome } from './http.ts';
import { type Query, queryText } from './path.ts';
import { PER_ACTION, type RateLimit, RateLimiter, type Sleep } from './rate.ts';
import { backoffMs, mayRetry } from './retry.ts';
import { openTimeLimit, type TimeLimit, timeoutOf } from './time-limit.ts';

/** The last argument of every method. */
export interface CallOptions {
  /** Ends the call at once; it rejects with reason `aborted`. */
  signal?: AbortSignal | undefined;
  /**
   * For the whole call: waiting for its turn, every try and the pauses between them. Default 30 s, where a
   * method says no other.
   */
  timeoutMs?: number | undefined;
}

/** One call of the API. */
export interface CallSpec<T> {
  /** The client's method. */
  name: string;
  effect: Effect;
  method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** From the root, encoded. */
  path: string;
  query?: Query;
  /** What it is about, for messages and as the key of its rate limit: `app` or `app/machine`. */
  target: string;
  /** Default: Fly's limit for every action. */
  limit?: RateLimit;
  /**
   * Of the rate limit, where methods share one. Fly does not say where its "actions" part, so we take them
   * for wide. Default: `name`.
   */
  action?: string;
  /** Of the rate limit, where Fly counts by something else. Default: `action` and `target`. */
  limitKey?: string;
  headers?: Record<string, string>;
  body?: unknown;
  /**
   * Makes the result of the answer's JSON (undefined for an empty body); throws when that is not what it
   * should be.
   */
  read: (body: unknown) => T;
  /** Default of the whole call. */
  timeoutMs?: number;
  /** For each try, so that one that hangs leaves time for another. Default 15 s. */
  attemptTimeoutMs?: number;
  /** Default 4. */
  attempts?: number;
  /** Values of the body that must not come back in an error's text. */
  secrets?: string[];
}

/** One try of one call, for logs and metrics. Holds no secret. */
export interface CallEvent {
  call: string;
  target: string;
  /** From 1. */
  attempt: number;
  /** Undefined when there was no answer. */
  status: number | undefined;
  requestId: string | undefined;
  /** Undefined when it succeeded. */
  error: FlyErrorKind | undefined;
  /** Waiting for its turn under the rate limit. */
  queuedMs: number;
  durationMs: number;
}

export interface CallerDeps {
  wire: Wire;
  /** Kept out of every text. */
  token: string;
  /** Milliseconds from any origin; never goes back. */
  clock: () => number;
  random: () => number;
  sleep: Sleep;
  onCall: ((event: CallEvent) => void) | undefined;
}

const TIMEOUT_MS = 30_000;
const ATTEMPT_TIMEOUT_MS = 15_000;
const ATTEMPTS = 4;

type Attempt<T> = { ok: true; value: T } | { ok: false; error: FlyError };

/**
 * Sends calls: in their turn, within their deadline, again only where `mayRetry` says so. Failures come as
 * `FlyError`.
 */
export class Caller {
  readonly clock: () => number;
  readonly random: () => number;
  readonly #deps: CallerDeps;
  readonly #limiter: RateLimiter;

  constructor(deps: CallerDeps) {
    this.clock = deps.clock;
    this.random = deps.random;
    this.#deps = deps;
    this.#limiter = new RateLimiter(deps.clock, deps.sleep);
  }

  async call<T>(spec: CallSpec<T>, options: CallOptions): Promise<T> {
    const timeoutMs = timeoutOf(spec.name, options.timeoutMs, spec.timeoutMs ?? TIMEOUT_MS);
    const timeLimit = openTimeLimit(this.clock, timeoutMs, options.signal);
    try {
      for (let attempt = 1; ; attempt++) {
        const result = await this.#attempt(spec, attempt, timeLimit);
        if (result.ok) return result.value;
        const { error } = result;
        if (attempt >= (spec.attempts ?? ATTEMPTS) || !mayRetry(spec.effect, error)) throw error;
        const pauseMs = backoffMs(attempt, error, this.random);
        // No time for another try: the caller learns now what it would learn then.
        if (pauseMs >= timeLimit.remainingMs()) throw error;
        await this.pause(pauseMs, timeLimit.signal);
        if (timeLimit.signal.aborted) throw timeLimit.expired() ? error : aborted(spec, error);
      }
    } finally {
      timeLimit.close();
    }
  }

  /** Ends early, without an error, when the signal is aborted. */
  async pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
    await this.#deps.sleep(ms, signal).catch((error: unknown) => {
      if (!signal?.aborted) throw error;
    });
  }

  async #attempt<T>(spec: CallSpec<T>, attempt: number, timeLimit: TimeLimit): Promise<Attempt<T>> {
    const limit = spec.limit ?? PER_ACTION;
    const key = spec.limitKey ?? `${spec.action ?? spec.name} ${spec.target}`;
    const arrivedAt = this.clock();
    const unsent = await this.#waitForTurn(spec, key, limit, timeLimit);
    if (unsent !== undefined) return { ok: false, error: unsent };

    const sentAt = this.clock();
    const outcome = await this.#deps.wire.send({
      method: spec.method,
      path: spec.path + queryText(spec.query ?? {}),
      headers: spec.headers ?? {},
      body: spec.body,
      timeoutMs: Math.min(spec.attemptTimeoutMs ?? ATTEMPT_TIMEOUT_MS, Math.max(1, timeLimit.remainingMs())),
      signal: timeLimit.signal,
    });
    const result = this.#resultOf(spec, outcome, timeLimit);
    if (!result.ok && result.error.kind === 'rate') this.#limiter.refused(key, limit);
    this.#deps.onCall?.({
      call: spec.name,
      target: spec.target,
      attempt,
      status: outcome.type === 'reply' ? outcome.status : undefined,
      requestId: outcome.type === 'reply' ? outcome.requestId : undefined,
      error: result.ok ? undefined : result.error.kind,
      queuedMs: sentAt - arrivedAt,
      durationMs: this.clock() - sentAt,
    });
    return result;
  }

  /** The error when the turn never came: nothing was sent then. */
  async #waitForTurn<T>(
    spec: CallSpec<T>,
    key: string,
    limit: RateLimit,
    timeLimit: TimeLimit,
  ): Promise<FlyError | undefined> {
    const waitMs = this.#limiter.expectedWaitMs(key, limit);
    const remainingMs = timeLimit.remainingMs();
    if (waitMs > remainingMs && !timeLimit.signal.aborted) {
      const detail = `its turn under the rate limit comes in ${waitMs} ms, its time ends in ${Math.ceil(remainingMs)} ms`;
      return flyError('rate', { ...about(spec), detail, retryAfterMs: waitMs });
    }
    try {
      await this.#limiter.acquire(key, limit, timeLimit.signal);
      return undefined;
    } catch (error) {
      if (!timeLimit.signal.aborted) throw error;
      if (!timeLimit.expired()) return aborted(spec);
      return flyError('rate', {
        ...about(spec),
        detail: 'its time ended before its turn under the rate limit',
      });
    }
  }

  #resultOf<T>(spec: CallSpec<T>, outcome: WireOutcome, timeLimit: TimeLimit): Attempt<T> {
    if (outcome.type !== 'reply') {
      const deadline = outcome.type === 'no_answer' && outcome.why === 'aborted' && timeLimit.expired();
      const failure = deadline ? ({ type: 'no_answer', why: 'timeout' } as const) : outcome;
      return { ok: false, error: this.#error(spec, failure, describe(failure)) };
    }
    const { status, requestId, retryAfterMs } = outcome;
    const heard = { status, requestId, retryAfterMs };
    const answer = readAnswer(outcome.text);
    if (status < 200 || status > 299) {
      const failure = { type: 'reply', status, code: answer.code, text: answer.words } as const;
      return { ok: false, error: this.#error(spec, failure, answer.words || 'no text', heard) };
    }
    try {
      if (!answer.isJson) throw new SyntaxError('not JSON');
      return { ok: true, value: spec.read(answer.body) };
    } catch {
      const failure = { type: 'bad_reply' } as const;
      return { ok: false, error: this.#error(spec, failure, describe(failure), heard) };
    }
  }

  #error<T>(
    spec: CallSpec<T>,
    failure: Failure,
    words: string,
    heard: Partial<FlyErrorFields> = {},
  ): FlyError {
    const { kind, ...diagnosis } = classify(spec.effect, failure);
    const detail = redact(words, this.#deps.token, spec.secrets ?? []);
    return flyError(kind, { ...about(spec), ...heard, ...diagnosis, detail });
  }
}

function about<T>(spec: CallSpec<T>): { call: string; target: string } {
  return { call: spec.name, target: spec.target };
}

/**
 * The caller gave up between two tries, or before the first: what the last try left in doubt stays in doubt.
 */
function aborted<T>(spec: CallSpec<T>, last?: FlyError): FlyError {
  const kind = last?.kind === 'unknown_outcome' ? 'unknown_outcome' : 'platform';
  const detail =
    last === undefined ? 'aborted before it was sent' : `aborted before it was sent again: ${last.detail}`;
  return flyError(kind, { ...about(spec), reason: 'aborted', detail });
}
