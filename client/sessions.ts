import type { Readable } from 'node:stream';
import type { SaveResult, SessionEvent, Session as SessionInfo, Unsaved } from '../controller/api/schemas.ts';
import type { ErrorCode } from '../controller/errors.ts';
import { MobVibeError } from './errors.ts';
import type { ExecOutcome } from './exec-outcome.ts';
import { type ExecOptions, Execs } from './execs.ts';
import { Files } from './files.ts';
import { newId } from './ids.ts';
import type { Page, PageOptions } from './jobs.ts';
import type { CallOptions, Transport } from './transport.ts';

export interface WaitOptions extends CallOptions {
  /** How long the controller waits for the outcome, milliseconds; 0 returns at once. Default: its own start deadline. */
  waitMs?: number;
}

export interface OpenOptions extends WaitOptions {
  /** Which saved version of the files to begin with. Default: the newest. */
  version?: number;
}

export interface StopOptions extends WaitOptions {
  /** Between SIGTERM and SIGKILL to what still runs, milliseconds. Default: the stack's setting. */
  graceMs?: number;
  /** Gives up what can't be saved. See `unsaved()` and `rescue()`. */
  discardUnsaved?: boolean;
}

export interface CreateOptions extends WaitOptions {
  /** The same id and settings again find the session that exists. Default: a new one. */
  id?: string;
  /** Fly region, or several in order of preference: `sjc,lax,any`. Default: the controller's. */
  region?: string;
  cpuKind?: 'shared' | 'performance';
  cpus?: number;
  memoryMb?: number;
}

/** Starting takes the controller two minutes at most by default; the answer then needs its way. */
const START_TIMEOUT_MS = 120_000;
const GRACE_MS = 30_000;
/** Deadline of copying a whole workspace out, milliseconds. */
const RESCUE_TIMEOUT_MS = 3_600_000;

export class Sessions {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Creates a session, or opens the one that has this id, and waits until its sandbox is ready. */
  async create(options: CreateOptions = {}): Promise<Session> {
    const { id = newId(), region, cpuKind, cpus, memoryMb, waitMs, ...call } = options;
    const info = await this.#transport.json<SessionInfo>({
      method: 'POST',
      path: '/v1/sessions',
      query: { wait_ms: waitMs },
      json: { id, region, cpu_kind: cpuKind, cpus, memory_mb: memoryMb },
      repeatable: true,
      timeoutMs: startTimeout(waitMs),
      ...call,
    });
    return new Session(this.#transport, info);
  }

  /** A session that exists, as it is. */
  async get(id: string, options: CallOptions = {}): Promise<Session> {
    const ask = { method: 'GET', path: sessionPath(id), repeatable: true };
    return new Session(this.#transport, await this.#transport.json<SessionInfo>({ ...ask, ...options }));
  }

  /** One page of all sessions, sorted by id. */
  async list(options: PageOptions & { status?: SessionInfo['status'] } = {}): Promise<Page<SessionInfo>> {
    const { status, cursor, limit, ...call } = options;
    const { items, next_cursor } = await this.#transport.json<{
      items: SessionInfo[];
      next_cursor: string | null;
    }>({
      method: 'GET',
      path: '/v1/sessions',
      query: { status, cursor, limit },
      repeatable: true,
      ...call,
    });
    return { items, nextCursor: next_cursor };
  }
}

/**
 * A coding session: its files outlive the sandboxes that serve it. `await using` stops it at the end of the block, with its
 * files saved, and fails where they could not be.
 */
export class Session {
  readonly id: string;
  /** As the last answer of the controller had it; `refresh()` asks again. */
  info: SessionInfo;
  readonly execs: Execs;
  readonly files: Files;
  readonly #transport: Transport;

  constructor(transport: Transport, info: SessionInfo) {
    this.#transport = transport;
    this.id = info.id;
    this.info = info;
    this.execs = new Execs(transport, this);
    this.files = new Files(transport, info.id);
  }

  /** Runs a command to its end. A string is run by a shell, a list as it stands. The same as `execs.run`. */
  exec(command: string | string[], options: ExecOptions = {}): Promise<ExecOutcome> {
    return this.execs.run(command, options);
  }

  async refresh(options: CallOptions = {}): Promise<SessionInfo> {
    const ask = { method: 'GET', path: sessionPath(this.id), repeatable: true };
    this.info = await this.#transport.json({ ...ask, ...options });
    return this.info;
  }

  /** Starts a sandbox with the saved files, where there is none, and waits until it is ready. */
  open({ version, ...wait }: OpenOptions = {}): Promise<SessionInfo> {
    return this.#turn('open', { version }, startTimeout(wait.waitMs), wait);
  }

  /**
   * Ends what runs, saves the files and destroys the sandbox. Stopping a stopped session does nothing. Rejects with `save_failed` where the
   * files could not be saved: then the sandbox is kept as it is, and the controller goes on trying.
   */
  stop({ graceMs, discardUnsaved, ...wait }: StopOptions = {}): Promise<SessionInfo> {
    const how = { grace_ms: graceMs, discard_unsaved: discardUnsaved };
    return this.#turn('stop', how, startTimeout(wait.waitMs) + (graceMs ?? 0), wait);
  }

  /** What would be lost if the sandbox went now: how the files differ from the newest saved version. */
  unsaved(options: CallOptions = {}): Promise<Unsaved> {
    const ask = { method: 'GET', path: `${sessionPath(this.id)}/unsaved`, repeatable: true };
    return this.#transport.json({ ...ask, timeoutMs: START_TIMEOUT_MS, ...options });
  }

  /**
   * All of the workspace as a tar, as it is in the sandbox now, also while it can't be saved. A stream, which fails when the connection
   * breaks: `timeoutMs` and `signal` hold to its last byte.
   */
  rescue(options: CallOptions = {}): Promise<Readable> {
    const ask = { method: 'GET', path: `${sessionPath(this.id)}/rescue`, repeatable: true };
    return this.#transport.stream({ ...ask, timeoutMs: RESCUE_TIMEOUT_MS, ...options });
  }

  /** Saves the files now. */
  save(options: CallOptions = {}): Promise<SaveResult> {
    const ask = { method: 'POST', path: `${sessionPath(this.id)}/save`, repeatable: true };
    return this.#transport.json({ ...ask, timeoutMs: START_TIMEOUT_MS, ...options });
  }

  /** One page of what happened to it, oldest first. */
  async events(options: PageOptions = {}): Promise<Page<SessionEvent>> {
    const { cursor, limit, ...call } = options;
    const { items, next_cursor } = await this.#transport.json<{
      items: SessionEvent[];
      next_cursor: string | null;
    }>({
      method: 'GET',
      path: `${sessionPath(this.id)}/events`,
      query: { cursor, limit },
      repeatable: true,
      ...call,
    });
    return { items, nextCursor: next_cursor };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { status, error, save } = await this.stop();
    if (status === 'failed' && error !== null) throw notSaved(error.code, error.detail);
    if (status !== 'stopping') return;
    const why = save?.state === 'failing' ? `: ${save.detail}` : '';
    throw notSaved(
      'save_failed',
      `Session "${this.id}" is still being stopped, its files are not saved yet${why}`,
    );
  }

  async #turn(
    action: 'open' | 'stop',
    how: Record<string, unknown>,
    timeoutMs: number,
    { waitMs, ...call }: WaitOptions,
  ): Promise<SessionInfo> {
    const isSet = Object.values(how).some((value) => value !== undefined);
    this.info = await this.#transport.json({
      method: 'POST',
      path: `${sessionPath(this.id)}/${action}`,
      query: { wait_ms: waitMs },
      ...(isSet && { json: how }),
      repeatable: true,
      timeoutMs,
      ...call,
    });
    return this.info;
  }
}

const notSaved = (code: string, detail: string) => new MobVibeError(code as ErrorCode, 'unknown', detail);
const startTimeout = (waitMs = START_TIMEOUT_MS) => waitMs + GRACE_MS;
const sessionPath = (id: string) => `/v1/sessions/${encodeURIComponent(id)}`;
