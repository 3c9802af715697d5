import { randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import type { Logger } from 'pino';
import type { AgentHub } from '../agents/hub.ts';
import type { AgentLink } from '../agents/link.ts';
import type { Config } from '../config.ts';
import { CodedError } from '../errors.ts';
import type { WorkspaceFiles } from '../files/workspace.ts';
import type { Store } from '../store/index.ts';
import type { SandboxRow, SessionRow, SessionSettings } from '../store/rows.ts';
import type { Admission } from './admission.ts';
import type { Breaker } from './breaker.ts';
import type { Cells } from './cells.ts';
import { Cleanup } from './cleanup.ts';
import { type ExecProgress, runExec } from './exec.ts';
import { type ExecOutcome, OutputCollector } from './exec-output.ts';
import { parseFailure, toCodedError } from './failures.ts';
import type { Machines } from './machines.ts';
import { OpenSandboxes } from './open-sandboxes.ts';
import { pause } from './pause.ts';
import { type ExecOptions, execSpec } from './requests.ts';
import { SandboxWorker, type WorkerTimes } from './worker.ts';

export interface LifecycleDeps {
  store: Store;
  machines: Machines;
  cells: Cells;
  admission: Admission;
  breaker: Breaker;
  hub: AgentHub;
  files: WorkspaceFiles;
  config: Pick<
    Config,
    'startTimeoutMs' | 'execTimeoutMs' | 'sandboxMaxAgeMs' | 'cleanupIntervalMs' | 'sandboxImage'
  >;
  log: Logger;
  clock: () => number;
  random: () => number;
  /** Shorter ones for tests. */
  times?: Partial<LifecycleTimes>;
}

export interface LifecycleTimes extends Omit<WorkerTimes, 'startTimeoutMs'> {
  /** A machine without a row is left alone when it is younger than this: twice what a create may take. */
  unknownGraceMs: number;
  /** Added to the start's own deadline when a caller waits for it, so that the caller learns its outcome. */
  waitSlackMs: number;
  /** What a shutdown has cut off has this long to notice; a call to an agent that does not answer ends with its connection, later. */
  cutOffMs: number;
}

export const TIMES: LifecycleTimes = {
  stopSaveMs: 600_000,
  destroyWaitMs: 20_000,
  lookApartMs: 2_000,
  retryMs: 500,
  unknownGraceMs: 120_000,
  waitSlackMs: 10_000,
  cutOffMs: 5_000,
};

export interface CallOptions {
  /** For the event log. Default `lifecycle`. */
  actor?: string;
  /** How long to wait for the outcome, milliseconds; 0 returns at once. Default: the deadline of a start. */
  waitMs?: number;
}

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

/** Of a start, before anything was written. */
const REFUSALS: ReadonlySet<string> = new Set(['no_capacity', 'image_failing']);
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
      seen: (app, sandboxes) => deps.admission.seen(app, sandboxes),
    });
    deps.hub.on('disconnect', (link: AgentLink) => this.#cleanup.suspect(link.sandbox));
  }

  /** Opens the session, or makes it where `settings` are given, and starts its sandbox. */
  async openSession(
    open: { id: string; settings: SessionSettings | null },
    { actor = 'lifecycle', waitMs }: CallOptions = {},
  ): Promise<SessionRow & { created: boolean }> {
    if (this.#draining) throw new CodedError('shutting_down', 'This controller takes no new sessions');
    const { app, done } = await this.#placeFor(open.id);
    const opened = await this.#deps.store.openSession({ ...open, app, actor }).catch((error: unknown) => {
      done(false);
      throw error;
    });
    if (opened.opened) this.#changed(opened.sandbox);
    done(opened.opened);
    let { session } = opened;
    if (session.status === 'starting') {
      // Only a row that was made for this very call can't have been moved on since.
      const row = opened.opened ? opened.sandbox : undefined;
      const atRest = this.drive(opened.sandbox, row, session.settings);
      if (waitMs !== 0) {
        const ms = waitMs ?? this.#deps.config.startTimeoutMs + this.#times.waitSlackMs;
        session = await this.#wait(atRest, session, ms);
        await this.#throwIfNotStarted(session, opened.sandbox, waitMs);
      }
    }
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
  async startSandbox(sessionId: string, options: CallOptions = {}): Promise<SessionRow> {
    return this.openSession({ id: sessionId, settings: null }, options);
  }

  /** Saves the files, then destroys the machine. The row that is returned says how far that got within `waitMs`. */
  async stopSandbox(sessionId: string, reason: string, options: CallOptions = {}): Promise<SessionRow> {
    const { actor = 'lifecycle' } = options;
    const waitMs = options.waitMs ?? this.#deps.config.startTimeoutMs + this.#times.waitSlackMs;
    const stopped = await this.#beginStop(this.#deps.store.stopSession(sessionId, reason, actor));
    if (waitMs !== 0 && stopped !== null) return this.#wait(stopped.atRest, stopped.session, waitMs);
    return this.#deps.store.getSession(sessionId);
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
    const end = await runExec({
      id: options.execId ?? randomUUID(),
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
    return collected.outcome(end);
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
    const guard = ({ session_id }: SandboxRow) => void breaker.guard(config.sandboxImage, session_id);
    const worker = new SandboxWorker({ ...this.#deps, times, onChange, guard }, name, signal, settings);
    const done = worker.run(row).finally(() => {
      if (this.#workers.get(name)?.worker === worker) this.#workers.delete(name);
    });
    this.#workers.set(name, { worker, signal, done });
    return done;
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

  /** `atRest` settles when the sandbox is gone, or nobody here works on it any more. Null: there was nothing to stop. */
  async #beginStop(
    stopped: Promise<{ session: SessionRow; sandbox: SandboxRow | null } | null>,
  ): Promise<{ session: SessionRow; atRest: Promise<void> } | null> {
    const { session, sandbox } = (await stopped) ?? { sandbox: null };
    if (session === undefined || sandbox === null) return null;
    this.#changed(sandbox);
    // A worker that still waits for the start is told to look again, and goes on with the end.
    this.#workers.get(sandbox.name)?.worker.nudge();
    return { session, atRest: this.drive(sandbox) };
  }

  /** Until the work here is done and the session's status is another, also where another controller goes on with it; `ms` at most. */
  async #wait(atRest: Promise<void>, { id, status }: SessionRow, ms: number): Promise<SessionRow> {
    const enough = new AbortController();
    const signal = AbortSignal.any([enough.signal, this.#stopping.signal]);
    const changed = async () => {
      await atRest;
      for (;;) {
        const session = await this.#deps.store.getSession(id);
        if (signal.aborted || session.status !== status) return session;
        await pause(LOOK_ELSEWHERE_MS, signal);
      }
    };
    const session = await Promise.race([changed(), pause(ms, enough.signal)]);
    enough.abort();
    return session ?? this.#deps.store.getSession(id);
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

/** Resolves when the work is done or the time is over, whichever comes first. */
async function within(work: Promise<unknown>, ms: number): Promise<void> {
  const enough = new AbortController();
  await Promise.race([work, pause(ms, enough.signal)]);
  enough.abort();
}
