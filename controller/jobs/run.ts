import { CodedError } from '../errors.ts';
import { type ExecEnd, runExec } from '../sessions/exec.ts';
import type { OpenSandbox } from '../sessions/open-sandboxes.ts';
import { backoff, pause } from '../sessions/pause.ts';
import type { Claim } from '../store/index.ts';
import type { JobRow } from '../store/rows.ts';
import { Outbox } from './outbox.ts';
import type { JobDeps } from './processor.ts';

/** Between SIGTERM and SIGKILL to a job that is cancelled. */
const CANCEL_GRACE_MS = 5_000;
/** A lease is renewed at least so often: this is how soon a cancel that came through another controller is seen. */
const MOST_BEAT_MS = 2_000;
/** For as long as the database does not answer, finished work is held and offered again. */
const HOLD_MS = 600_000;
const RETRY_MS = 250;
const MOST_RETRY_MS = 10_000;
/** Between attempts of a job that did not start. */
const MOST_RELEASE_MS = 60_000;

/**
 * One claim of one job. What ends it early, a lost lease or a shutdown, never ends its exec: that belongs to the agent, and whoever
 * claims the job next follows it under the same id, `job-<id>-<attempt>`.
 */
export class JobRun {
  readonly #deps: JobDeps;
  readonly #job: JobRow;
  readonly #claim: Claim;
  /** Aborted when this claim has nothing more to say about the job. */
  readonly #over = new AbortController();
  /** Aborted when the job is to be cancelled. */
  readonly #cancel = new AbortController();
  #beating: Promise<void> | undefined;
  #app: string | undefined;

  constructor(deps: JobDeps, job: JobRow) {
    this.#deps = deps;
    this.#job = job;
    this.#claim = { id: job.id, token: job.token! };
    if (job.cancel_requested) this.#cancel.abort();
  }

  /** The cell of the sandbox that it runs in, once that is known. */
  get app(): string | undefined {
    return this.#app;
  }

  get #execId(): string {
    return `job-${this.#job.id}-${this.#job.attempts}`;
  }

  async run(): Promise<void> {
    const every = Math.min(this.#deps.config.jobLeaseMs / 3, MOST_BEAT_MS);
    const timer = setInterval(() => this.beat(), every);
    try {
      await this.#run();
    } catch (error) {
      // Over means that somebody else speaks for the job now, or will.
      if (!this.#over.signal.aborted) throw error;
    } finally {
      clearInterval(timer);
      await this.#beating;
    }
  }

  /** Renews the lease and looks whether the job is to be cancelled. */
  beat(): void {
    if (this.#over.signal.aborted) return;
    this.#beating ??= this.#deps.store
      .heartbeatJob(this.#claim, this.#deps.config.jobLeaseMs)
      .then((job) => {
        if (job.cancel_requested) this.#cancel.abort();
      })
      .catch((error: unknown) => {
        if (error instanceof CodedError && error.code === 'fenced') this.abandon();
      })
      .finally(() => {
        this.#beating = undefined;
      });
  }

  /** Stops without a word: another claim has the job. */
  abandon(): void {
    this.#over.abort(new CodedError('fenced', `Job ${this.#job.id} has another claim`));
  }

  /** Stops following and lets the lease end now, so that the next claimer does not wait for it. */
  handOver(): void {
    if (this.#over.signal.aborted) return;
    this.#over.abort(new CodedError('shutting_down', 'This controller is shutting down'));
    // After a beat that is under way, which would give the job its full lease again.
    this.#beating = (this.#beating ?? Promise.resolve())
      .then(() => this.#deps.store.heartbeatJob(this.#claim, 1))
      .then(
        () => undefined,
        () => undefined,
      );
  }

  async #run(): Promise<void> {
    const attach = this.#job.started;
    if (!attach && this.#cancel.signal.aborted) return this.#finishUnstarted('canceled');
    let open: OpenSandbox;
    try {
      open = attach ? await this.#findSandbox() : await this.#openSandbox();
      this.#app = open.sandbox.app;
      if (!attach) {
        if (this.#cancel.signal.aborted) return await this.#finishUnstarted('canceled');
        await this.#insist(() => this.#deps.store.jobStarted(this.#claim));
      }
    } catch (error) {
      this.#over.signal.throwIfAborted();
      return attach ? this.#finishLost(error) : this.#release(error);
    }
    await this.#follow(open, attach && !(await this.#isSameMachine(open)));
  }

  /** Opens the session where it is stopped; one that is being stopped is waited for. */
  async #openSandbox(): Promise<OpenSandbox> {
    const { lifecycle, config, clock } = this.#deps;
    const until = clock() + config.startTimeoutMs;
    for (;;) {
      this.#over.signal.throwIfAborted();
      try {
        const { session_id } = this.#job;
        await unlessAborted(lifecycle.startSandbox(session_id, { actor: 'jobs' }), this.#over.signal);
        return await unlessAborted(lifecycle.open.link(session_id), this.#over.signal);
      } catch (error) {
        const passes =
          error instanceof CodedError && ['session_stopping', 'session_not_open'].includes(error.code);
        if (!passes || clock() >= until) throw error;
        await pause(RETRY_MS, this.#over.signal);
      }
    }
  }

  /** Where the job was started: the session's sandbox, if that is still the same one. */
  async #findSandbox(): Promise<OpenSandbox> {
    const row = await this.#insist(() => this.#deps.store.findLiveSandbox(this.#job.session_id));
    this.#app = row?.app;
    // Also while the session is being stopped: its agent still knows how the exec ended.
    return this.#insist(
      () => this.#deps.lifecycle.open.linkAny(this.#job.session_id),
      ['agent_unreachable', 'agent_unresponsive', 'database_unavailable'],
    );
  }

  /**
   * Was the sandbox there when the job was marked as started? Then its agent knows the exec, or the exec never started: asking for the
   * id again can't run it twice. A sandbox made later knows nothing of it.
   */
  async #isSameMachine({ sandbox }: OpenSandbox): Promise<boolean> {
    const started = await this.#insist(() => this.#deps.store.findJobStart(this.#job));
    return started !== null && Date.parse(sandbox.created_at) < started;
  }

  async #follow(open: OpenSandbox, attachOnly: boolean): Promise<void> {
    const { store, lifecycle, config, clock, random } = this.#deps;
    const outbox = new Outbox((chunk) => this.#insist(() => store.appendJobOutput(this.#claim, chunk)));
    const { command, timeout_ms, ...rest } = this.#job.spec;
    const stopCanceling = this.#watchCancel(open);
    let end: ExecEnd;
    try {
      end = await runExec({
        id: this.#execId,
        spec: { command, ...rest, timeout_ms: timeout_ms ?? config.execTimeoutMs },
        connect: () => lifecycle.open.reconnect(open.sandbox),
        attach: attachOnly,
        onEvent: (event) => outbox.add(event),
        signal: this.#over.signal,
        clock,
        random,
      });
      await outbox.flush();
    } catch (error) {
      outbox.abandon();
      this.#over.signal.throwIfAborted();
      if (!attachOnly && error instanceof CodedError && REFUSED.has(error.code)) return this.#refused(error);
      return this.#finishLost(error);
    } finally {
      stopCanceling();
    }
    await this.#finish(end);
  }

  async #finish(end: ExecEnd): Promise<void> {
    // Field by field: it comes from the sandbox.
    const { result, stdout_bytes, stderr_bytes, duration_ms, oom_killed } = end;
    const succeeded = result.kind === 'exited' && result.code === 0;
    // A job that ended well before the signal reached it has done what it was to do.
    const status = succeeded ? 'succeeded' : this.#cancel.signal.aborted ? 'canceled' : 'failed';
    const outcome = { result, stdout_bytes, stderr_bytes, duration_ms, ...(oom_killed && { oom_killed }) };
    await this.#insist(() => this.#deps.store.finishJob(this.#claim, status, outcome));
    this.#over.abort();
  }

  /** It was marked as started, and what became of it can't be learned. A refusal of the agent says that nothing ran. */
  async #finishLost(error: unknown): Promise<void> {
    const coded = error instanceof CodedError ? error : undefined;
    const lost = coded !== undefined && LOST.has(coded.code);
    const kind = lost ? 'machine_lost' : 'unknown';
    const reason = coded === undefined ? String(error) : coded.message;
    await this.#finish({
      type: 'end',
      result: { kind, reason },
      stdout_bytes: 0,
      stderr_bytes: 0,
      duration_ms: 0,
    });
  }

  async #finishUnstarted(
    status: 'canceled' | 'failed',
    reason = 'It was cancelled before it started',
  ): Promise<void> {
    const outcome = { result: { kind: 'unknown', reason }, stdout_bytes: 0, stderr_bytes: 0, duration_ms: 0 };
    await this.#insist(() => this.#deps.store.finishJob(this.#claim, status, outcome));
    this.#over.abort();
  }

  /** It provably did not start. A request that can't succeed is not tried again; a platform that failed is, later. */
  async #release(error: unknown): Promise<void> {
    this.#deps.log.info({ job: this.#job.id, err: error }, 'job did not start');
    if (error instanceof CodedError && error.kind === 'mistake' && !PASSING.has(error.code)) {
      return this.#finishUnstarted('failed', error.message);
    }
    if (error instanceof CodedError && NO_TRY.has(error.code)) return this.#refused(error);
    const delay = Math.round(backoff(this.#job.attempts, this.#deps.random, 1_000, MOST_RELEASE_MS));
    await this.#insist(() => this.#deps.store.releaseJob(this.#claim, delay));
    this.#over.abort();
  }

  /** The sandbox did not take it: no try of the job. */
  async #refused(error: CodedError): Promise<void> {
    this.#deps.log.info({ job: this.#job.id, err: error }, 'job was refused');
    const { attempts } = this.#job;
    const delay =
      error.retryAfterMs ?? Math.round(backoff(attempts, this.#deps.random, 250, MOST_RELEASE_MS));
    await this.#insist(() => this.#deps.store.refuseJob(this.#claim, error.message, delay));
    this.#over.abort();
  }

  /** Ends the exec once that is asked for. Call the result when the exec has ended. */
  #watchCancel(open: OpenSandbox): () => void {
    const ended = new AbortController();
    const begin = () => void this.#signalUntil(open, AbortSignal.any([ended.signal, this.#over.signal]));
    if (this.#cancel.signal.aborted) begin();
    else this.#cancel.signal.addEventListener('abort', begin, { once: true });
    return () => {
      this.#cancel.signal.removeEventListener('abort', begin);
      ended.abort();
    };
  }

  /** SIGTERM first, then SIGKILL; again until the exec has ended, since it may not have started yet. */
  async #signalUntil(open: OpenSandbox, ended: AbortSignal): Promise<void> {
    for (let attempt = 1; !ended.aborted; attempt++) {
      try {
        const link = await this.#deps.lifecycle.open.reconnect(open.sandbox);
        const reply = await link.request({
          method: 'POST',
          path: `/execs/${this.#execId}/signal`,
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ signal: attempt === 1 ? 'SIGTERM' : 'SIGKILL' }),
          signal: ended,
        });
        await reply.expect();
      } catch (error) {
        if (!ended.aborted) this.#deps.log.info({ job: this.#job.id, err: error }, 'signal was not taken');
      }
      await pause(CANCEL_GRACE_MS, ended);
    }
  }

  /** Tries what is safe to repeat until the database answers, for as long as this claim stands. */
  async #insist<T>(
    work: () => Promise<T>,
    codes: string[] = ['database_unavailable', 'database_lost'],
  ): Promise<T> {
    const { clock, random } = this.#deps;
    const until = clock() + HOLD_MS;
    for (let attempt = 1; ; attempt++) {
      this.#over.signal.throwIfAborted();
      try {
        return await work();
      } catch (error) {
        if (error instanceof CodedError && error.code === 'fenced') this.abandon();
        const again = error instanceof CodedError && codes.includes(error.code);
        if (!again || clock() >= until) throw error;
        await pause(backoff(attempt, random, RETRY_MS, MOST_RETRY_MS), this.#over.signal);
      }
    }
  }
}

/** The exec's machine is not there any more, or is on its way out. */
const LOST: ReadonlySet<string> = new Set(['machine_lost', 'exec_not_found', 'session_not_open']);

/** What a sandbox says that did not start the exec and does not know it: it did not run, and may later. */
const REFUSED: ReadonlySet<string> = new Set([
  'session_stopping',
  'shutting_down',
  'too_many_processes',
  'out_of_memory',
]);

/** Refusals of a start that say nothing of the job or its image: it waits, and no try is used up. */
const NO_TRY: ReadonlySet<string> = new Set(['no_capacity', 'too_many_starts']);

/** Mistakes of the moment: the session may be open again by the next attempt. */
const PASSING: ReadonlySet<string> = new Set(['session_not_open']);

/** The work's outcome, or the signal's reason if that comes first. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abandon = () => reject(signal.reason);
    if (signal.aborted) abandon();
    signal.addEventListener('abort', abandon, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abandon));
  });
}
