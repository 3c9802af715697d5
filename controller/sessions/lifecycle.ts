import { randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import type { Logger } from 'pino';
import type { AgentHub } from '../agents/hub.ts';
import type { AgentLink } from '../agents/link.ts';
import type { ExecSpec } from '../agents/wire.ts';
import type { Config } from '../config.ts';
import { CodedError, type ErrorCode } from '../errors.ts';
import type { WorkspaceFiles } from '../files/workspace.ts';
import type { RegisteredExec } from '../store/execs.ts';
import type { Opened, StopOptions, Store } from '../store/index.ts';
import type { SandboxRow, SessionRow, SessionSettings } from '../store/rows.ts';
import type { Admission } from './admission.ts';
import type { Breaker } from './breaker.ts';
import type { Cells } from './cells.ts';
import { Cleanup, type SandboxCounts } from './cleanup.ts';
import { type ExecEnd, type ExecProgress, runExec } from './exec.ts';
import { type ExecOutcome, OutputCollector } from './exec-output.ts';
import { commandKey, type ExecRegistry, whoAnswers } from './exec-registry.ts';
import { parseFailure, toCodedError } from './failures.ts';
import type { Machines } from './machines.ts';
import { OpenSandboxes, UNRESPONSIVE_RETRY_MS } from './open-sandboxes.ts';
import { pause } from './pause.ts';
import { type ExecOptions, execSpec } from './requests.ts';
import { Vitals } from './vitals.ts';
import { SandboxWorker, type WorkerTimes } from './worker.ts';

export interface LifecycleDeps {
  store: Store;
  machines: Machines;
  cells: Cells;
  admission: Admission;
  breaker: Breaker;
  hub: AgentHub;
  files: WorkspaceFiles;
  execs: Pick<ExecRegistry, 'register' | 'startFailed'>;
  config: Pick<
    Config,
    | 'startTimeoutMs'
    | 'execTimeoutMs'
    | 'sandboxMaxAgeMs'
    | 'cleanupIntervalMs'
    | 'stopGraceMs'
    | 'unsavedKeepMs'
    | 'startsPerHour'
    | 'sandboxImage'
  >;
  log: Logger;
  clock: () => number;
  random: () => number;
  /** Told of each start that is refused, by the code of the refusal. */
  refused: (code: ErrorCode) => void;
  /** Shorter ones for tests. */
  times?: Partial<LifecycleTimes>;
}

export interface LifecycleTimes extends Omit<WorkerTimes, 'startTimeoutMs'> {
  /** A machine without a row is left alone when it is younger than this: twice what a create may take. */
  unknownGraceMs: number;
  /** Added to the start's own deadline when a caller waits for it, so that the caller learns its outcome. */
  waitSlackMs: number;
  /** An agent that has been silent for so long is unresponsive. */
  silenceMs: number;
  /** What a shutdown has cut off has this long to notice; a call to an agent that does not answer ends with its connection, later. */
  cutOffMs: number;
}

export const TIMES: LifecycleTimes = {
  destroyWaitMs: 20_000,
  lookApartMs: 2_000,
  retryMs: 500,
  unknownGraceMs: 120_000,
  waitSlackMs: 10_000,
  silenceMs: 30_000,
  cutOffMs: 5_000,
};

export interface CallOptions {
  /** For the event log. Default `lifecycle`. */
  actor?: string;
  /** How long to wait for the outcome, milliseconds; 0 returns at once. Default: the deadline of a start. */
  waitMs?: number;
}

export interface OpenOptions extends CallOptions {
  /** The version of the files that the sandbox begins with. Default: the newest. */
  version?: number | undefined;
}

export interface StopCallOptions extends CallOptions, StopOptions {}

export interface FollowedExec extends ExecOptions {
  /** Of each stream; what comes after is counted, not kept. Default 10 MiB. */
  maxOutputBytes?: number;
  onEvent?: (event: ExecProgress) => void | Promise<void>;
  signal?: AbortSignal;
}

interface LifecycleEvents {
  /** A transition made by this process. */
  change: [row: SandboxRow];
}

/** A start that fails is waited for until its machine is cleared away, too. */
const UNDER_WAY: ReadonlySet<string> = new Set(['starting', 'stopping']);
/** Of a start, before anything was written. */
const REFUSALS: ReadonlySet<string> = new Set(['no_capacity', 'image_failing']);
const COUNTED: ReadonlySet<string> = new Set([...REFUSALS, 'too_many_starts']);
/** Another controller's transitions are not heard. */
const LOOK_ELSEWHERE_MS = 500;
const DEFAULT_OUTPUT_BYTES = 10 * 1024 * 1024;

interface Running {
  worker: SandboxWorker;
  signal: AbortSignal;
  done: Promise<void>;
}

/**
 * Takes sessions from closed to ready and back. Each sandbox on its way has one worker; pokes start workers at once, the clean-up
 * makes sure that none is missing. All that counts stands in the database.
 */
export class SandboxLifecycle extends EventEmitter<LifecycleEvents> {
  /** The ways to the agents of open sessions. */
  readonly open: OpenSandboxes;
  readonly #deps: LifecycleDeps;
  readonly #times: LifecycleTimes;
  readonly #workers = new Map<string, Running>();
  readonly #stopping = new AbortController();
  readonly #cleanup: Cleanup;
  readonly #vitals: Vitals;
  #draining = false;

  constructor(deps: LifecycleDeps) {
    super();
    this.setMaxListeners(0);
    this.#deps = deps;
    this.open = new OpenSandboxes({ ...deps, changes: this });
    this.#times = { ...TIMES, ...deps.times };
    this.#cleanup = new Cleanup({
      ...deps,
      times: this.#times,
      busy: () => new Set(this.#workers.keys()),
      drive: (row) => this.drive(row),
      stop: (row, reason) => this.#beginStop(deps.store.stopSandbox(row, reason, 'lifecycle')),
      changed: (row) => this.#changed(row),
      seen: (app, rows) => {
        this.#vitals.seen(rows);
        deps.admission.seen(app, rows);
      },
    });
    this.#vitals = new Vitals({
      ...deps,
      silenceMs: this.#times.silenceMs,
      changed: (row) => this.#changed(row),
    });
    deps.hub.on('disconnect', (link: AgentLink) => this.#cleanup.suspect(link.sandbox));
  }

  /**
   * Opens the session, or makes it where `settings` are given, and starts its sandbox. A stop that is not sealed yet is cancelled; the end of
   * any other is waited for. Rejects with `save_failed` where that can't end because the files can't be saved.
   */
  async openSession(
    open: { id: string; settings: SessionSettings | null },
    { actor = 'lifecycle', waitMs, version }: OpenOptions = {},
  ): Promise<SessionRow & { created: boolean }> {
    const ms = waitMs ?? this.#deps.config.startTimeoutMs + this.#times.waitSlackMs;
    const over = timeOut(ms);
    const opened = await this.#open({ ...open, actor, version }, over).catch((error: unknown) => {
      if (error instanceof CodedError && COUNTED.has(error.code)) this.#deps.refused(error.code);
      throw error;
    });
    // It was about to be stopped: its worker finds out that it is not any more.
    if (opened.canceled) this.#workers.get(opened.sandbox.name)?.worker.nudge();
    let { session } = opened;
    if (session.status === 'starting') {
      // Only a row that was made for this very call can't have been moved on since.
      const row = opened.opened ? opened.sandbox : undefined;
      void this.drive(opened.sandbox, row, session.settings);
      if (ms > 0) {
        session = await this.#until(session, over, ({ status }) => !UNDER_WAY.has(status));
        await this.#throwIfNotStarted(session, opened.sandbox, waitMs);
      }
    }
    if (session.status === 'unresponsive') throw unresponsive(session.id);
    return { ...session, created: opened.created };
  }

  /**
   * A cell that takes a start of the session now; call `done` with whether one was begun. A session that is open, or on its way there,
   * needs no place: whoever opens it attaches.
   */
  async #placeFor(id: string): Promise<{ app: string; done: (begun: boolean) => void }> {
    const { admission, breaker, cells, config, store } = this.#deps;
    try {
      const turn = breaker.guard(config.sandboxImage, id);
      const place = await cells.take(admission.of(id)).catch((error: unknown) => {
        turn.release();
        throw error;
      });
      const done = (begun: boolean) => {
        place.done();
        if (!begun) turn.release();
      };
      return { app: place.app, done };
    } catch (refusal) {
      const passes = refusal instanceof CodedError && REFUSALS.has(refusal.code);
      const live = passes ? await store.findLiveSandbox(id) : null;
      if (live === null || live.state === 'destroying') throw refusal;
      return { app: live.app, done: () => {} };
    }
  }

  /** Starts a sandbox for a session that exists; one that is open stays as it is. */
  async startSandbox(sessionId: string, options: OpenOptions = {}): Promise<SessionRow> {
    return this.openSession({ id: sessionId, settings: null }, options);
  }

  /**
   * Ends what runs, saves the files, then destroys the machine. The row that is returned says how far that got within `waitMs`. Rejects with
   * `save_failed` as soon as the save has failed: the sandbox is kept, and tried again, until it is saved or may be given up.
   */
  async stopSandbox(sessionId: string, reason: string, options: StopCallOptions = {}): Promise<SessionRow> {
    const { actor = 'lifecycle', ...stop } = options;
    const waitMs = options.waitMs ?? this.#deps.config.startTimeoutMs + this.#times.waitSlackMs;
    const stopped = await this.#beginStop(this.#deps.store.stopSession(sessionId, reason, actor, stop));
    if (waitMs === 0 || stopped === null) return this.#deps.store.getSession(sessionId);
    const { session, sandbox } = stopped;
    const failed = (now: SessionRow) =>
      now.save.state === 'failing' && now.save_attempts > session.save_attempts && !sandbox.discard_unsaved;
    const ended = await this.#until(
      session,
      timeOut(waitMs),
      (now) => now.status !== 'stopping' || failed(now),
    );
    if (ended.status === 'stopping' && failed(ended)) throw await this.#notSaved(ended, sandbox);
    return ended;
  }

  /** Runs a command to its end. Rejects where it did not start; whatever became of one that did stands in `result`. */
  async execInSandbox(
    sessionId: string,
    command: string | string[],
    options: FollowedExec = {},
  ): Promise<ExecOutcome> {
    const spec = execSpec(command, options, this.#deps.config.execTimeoutMs);
    const { sandbox } = await this.open.link(sessionId);
    const collected = new OutputCollector(options.maxOutputBytes ?? DEFAULT_OUTPUT_BYTES);
    const id = options.execId ?? randomUUID();
    const registered = options.execId === undefined ? null : await this.#register(sandbox, id, spec);
    if (registered?.end) return collected.outcome(registered.end);
    const run = runExec({
      id,
      spec,
      clock: this.#deps.clock,
      random: this.#deps.random,
      connect: () => this.open.reconnect(sandbox),
      ...(options.stdin === undefined ? {} : { stdin: Buffer.from(options.stdin) }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      onEvent: (event) => {
        collected.add(event);
        return options.onEvent?.(event);
      },
    });
    const end = await run.catch(async (error: unknown) => {
      if (registered !== null) await this.#deps.execs.startFailed(registered.exec, error);
      throw error;
    });
    return collected.outcome(end);
  }

  /** An id that a caller has chosen stands for one command in the whole life of its session; its end where it ran in an earlier sandbox. */
  async #register(
    { session_id: sessionId, incarnation }: SandboxRow,
    id: string,
    spec: ExecSpec,
  ): Promise<{ exec: RegisteredExec; end: ExecEnd | null }> {
    const key = commandKey(spec);
    const exec = await this.#deps.execs.register({ sessionId, id, incarnation, key, actor: 'lifecycle' });
    return { exec, end: whoAnswers(exec.exec, key, incarnation) === 'row' ? exec.exec.end : null };
  }

  /**
   * Carries the sandbox on from its row; joins the worker that is at it already. `row` spares the first read where nobody can have changed
   * it: a worker that began with an older one would restore files over those that are in use.
   */
  drive(
    { name, app }: Pick<SandboxRow, 'name' | 'app'>,
    row?: SandboxRow,
    settings?: SessionSettings,
  ): Promise<void> {
    const running = this.#workers.get(name);
    if (running !== undefined && !running.worker.ended && !running.signal.aborted) return running.done;
    const signal = AbortSignal.any([this.#stopping.signal, this.#deps.cells.signal(app)]);
    if (signal.aborted) return Promise.resolve();
    const times = { ...this.#times, startTimeoutMs: this.#deps.config.startTimeoutMs };
    const onChange = (changed: SandboxRow) => this.#changed(changed);
    const { breaker, config } = this.#deps;
    const { stopGraceMs, unsavedKeepMs, sandboxImage } = config;
    const guard = ({ session_id }: SandboxRow) => void breaker.guard(sandboxImage, session_id);
    const deps = { ...this.#deps, times, onChange, stopGraceMs, unsavedKeepMs, guard };
    const worker = new SandboxWorker(deps, name, signal, settings);
    const done = worker.run(row).finally(() => {
      if (this.#workers.get(name)?.worker === worker) this.#workers.delete(name);
    });
    this.#workers.set(name, { worker, signal, done });
    return done;
  }

  /** Of this controller's cells, as of the last look at them. */
  get counts(): SandboxCounts {
    return this.#cleanup.counts;
  }

  /** Compares rows and machines now and then, every `cleanupIntervalMs`. */
  startCleanup(): void {
    this.#cleanup.start();
  }

  async stopCleanup(): Promise<void> {
    await this.#cleanup.stop();
  }

  /**
   * Takes no more work and lets steps under way come to rest for up to `graceMs`; the rest is cut off, to be taken up by the next
   * start. Sandboxes go on running.
   */
  async shutdown(graceMs: number): Promise<void> {
    this.#draining = true;
    this.#vitals.stop();
    await within(
      this.stopCleanup().then(() => this.#allAtRest()),
      graceMs,
    );
    this.#stopping.abort(new CodedError('shutting_down', 'This controller is shutting down'));
    await within(this.#allAtRest(), this.#times.cutOffMs);
  }

  async #allAtRest(): Promise<void> {
    await Promise.all([...this.#workers.values()].map(({ done }) => done));
  }

  /** Null: there was nothing to stop. */
  async #beginStop(
    stopped: Promise<{ session: SessionRow; sandbox: SandboxRow | null } | null>,
  ): Promise<{ session: SessionRow; sandbox: SandboxRow } | null> {
    const { session, sandbox } = (await stopped) ?? { sandbox: null };
    if (session === undefined || sandbox === null) return null;
    this.#changed(sandbox);
    // A worker that still waits, for the start or for its next try to save, is told to look again.
    this.#workers.get(sandbox.name)?.worker.nudge();
    void this.drive(sandbox);
    return { session, sandbox };
  }

  /** One that is being stopped and sealed is waited for. */
  async #open(
    open: { id: string; settings: SessionSettings | null; actor: string; version: number | undefined },
    over: AbortSignal,
  ): Promise<Opened> {
    const { store, config } = this.#deps;
    for (;;) {
      if (this.#draining) throw new CodedError('shutting_down', 'This controller takes no new sessions');
      const { app, done } = await this.#placeFor(open.id);
      try {
        const { startsPerHour } = config;
        const opened = await store.openSession({ ...open, app, startsPerHour });
        if (opened.opened || opened.canceled) this.#changed(opened.sandbox);
        done(opened.opened);
        return opened;
      } catch (error) {
        done(false);
        const waits = error instanceof CodedError && error.code === 'session_stopping';
        if (!waits || over.aborted) throw error;
      }
      const session = await this.#until(await store.getSession(open.id), over, canOpenSoon);
      if (session.status === 'stopping' && session.save.state === 'failing')
        throw await this.#notSaved(session, null);
    }
  }

  /** What a caller who waits for the end of a stop is told when its save fails. */
  async #notSaved({ id, save }: SessionRow, sandbox: SandboxRow | null): Promise<CodedError> {
    const unsaved = sandbox && (await this.#deps.files.unsaved(sandbox).catch(() => null));
    const what = unsaved
      ? `${unsaved.files} files (${unsaved.bytes} bytes) changed since version ${unsaved.base} are not saved`
      : 'Its files are not saved';
    return new CodedError(
      'save_failed',
      `${what}: ${save.code}: ${save.detail}. The sandbox of session "${id}" is kept, and saving goes on; its files can be rescued, or discarded`,
    );
  }

  /** The session when it is as `done` wants it, or when the time is over; also where another controller works on it. */
  async #until(
    known: SessionRow,
    timeIsOver: AbortSignal,
    done: (now: SessionRow) => boolean,
  ): Promise<SessionRow> {
    const over = AbortSignal.any([timeIsOver, this.#stopping.signal]);
    let heard = new AbortController();
    const listen = ({ session_id, state }: SandboxRow) => {
      if (session_id === known.id && state !== 'planned' && state !== 'created') heard.abort();
    };
    this.on('change', listen);
    try {
      let now = known;
      while (!done(now) && !over.aborted) {
        await pause(LOOK_ELSEWHERE_MS, AbortSignal.any([over, heard.signal]));
        // What changes from here on may not be in the answer.
        heard = new AbortController();
        now = await this.#deps.store.getSession(known.id);
      }
      return now;
    } finally {
      this.off('change', listen);
    }
  }

  async #throwIfNotStarted(
    session: SessionRow,
    { name, incarnation }: SandboxRow,
    waitMs: number | undefined,
  ): Promise<void> {
    if (session.status === 'ready' || session.incarnation !== incarnation) return;
    if (session.status === 'starting') {
      // A caller that chose its own wait is told how far it got; one that did not expects a sandbox.
      if (waitMs !== undefined) return;
      throw new CodedError('session_start_timeout', `Session "${session.id}" is still starting`);
    }
    // While Fly is away the end of a start that failed takes longer than anyone waits: the reason is known before.
    const failure = session.error ?? parseFailure((await this.#deps.store.findSandbox(name))?.reason ?? null);
    if (failure !== null) throw toCodedError(failure);
    throw new CodedError('session_start_failed', `Session "${session.id}" was stopped while it started`);
  }

  #changed(row: SandboxRow): void {
    this.#deps.log.info(
      { sandbox: row.name, state: row.state, machine: row.machine_id, reason: row.reason ?? undefined },
      'sandbox changed',
    );
    this.#deps.cells.changed(row);
    this.#deps.admission.changed(row);
    this.#deps.breaker.changed(this.#deps.config.sandboxImage, row);
    this.emit('change', row);
  }
}

/** Aborted after `ms`, whatever the clocks say meanwhile; at once for 0. */
function timeOut(ms: number): AbortSignal {
  return ms <= 0 ? AbortSignal.abort() : AbortSignal.timeout(Math.ceil(Math.min(ms, 2 ** 31 - 1)));
}

/** The sandbox that is in the way is on its way out, or will not be for a while. */
function canOpenSoon({ status, save }: SessionRow): boolean {
  return status !== 'stopping' || save.state === 'failing';
}

function unresponsive(sessionId: string): CodedError {
  return new CodedError(
    'agent_unresponsive',
    `The agent of session "${sessionId}" does not answer; its sandbox is kept`,
    { retryAfterMs: UNRESPONSIVE_RETRY_MS },
  );
}

/** Resolves when the work is done or the time is over, whichever comes first. */
async function within(work: Promise<unknown>, ms: number): Promise<void> {
  const enough = new AbortController();
  await Promise.race([work, pause(ms, enough.signal)]);
  enough.abort();
}
