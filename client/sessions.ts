import type { SaveResult, SessionEvent, Session as SessionInfo } from '../controller/api/schemas.ts';
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
 * files saved.
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
  open(options: WaitOptions = {}): Promise<SessionInfo> {
    return this.#turn('open', options);
  }

  /** Saves the files and destroys the sandbox. Stopping a stopped session does nothing. */
  stop(options: WaitOptions = {}): Promise<SessionInfo> {
    return this.#turn('stop', options);
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
    await this.stop();
  }

  async #turn(action: 'open' | 'stop', { waitMs, ...call }: WaitOptions): Promise<SessionInfo> {
    this.info = await this.#transport.json({
      method: 'POST',
      path: `${sessionPath(this.id)}/${action}`,
      query: { wait_ms: waitMs },
      repeatable: true,
      timeoutMs: startTimeout(waitMs),
      ...call,
    });
    return this.info;
  }
}

const startTimeout = (waitMs = START_TIMEOUT_MS) => waitMs + GRACE_MS;
const sessionPath = (id: string) => `/v1/sessions/${encodeURIComponent(id)}`;
