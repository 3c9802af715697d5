import type { Readable } from 'node:stream';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { AgentRequest } from '../agents/link.ts';
import type { Unsaved } from '../agents/wire.ts';
import type { SaveOutcome } from '../files/workspace.ts';
import type { ExecEnd } from '../sessions/exec.ts';
import type { SandboxRequest } from '../sessions/requests.ts';
import type { ExecRow, NewExec, RegisteredExec } from '../store/execs.ts';
import type { NewJob } from '../store/jobs.ts';
import type {
  JobOutputRow,
  JobRow,
  JobStatus,
  SandboxRow,
  SessionEventRow,
  SessionRow,
  SessionStatus,
} from '../store/rows.ts';

/** What the routes need from the rest of the controller, and no more: routes translate, these decide. */
export interface ApiDeps {
  manager: SessionManager;
  /** Base URL of the controller that requests about this session are for, where that is another one. See sessions/whereabouts.ts. */
  elsewhere(sessionId: string, starts: boolean): Promise<string | null>;
  lifecycle: { startSandbox(sessionId: string, options: OpenOptions): Promise<SessionRow> };
  files: SessionFiles;
  execs: ExecIds;
  jobs: { poke(): void };
  store: ApiStore;
  /** Each resolves when the other side answers and rejects when it does not, or when the signal says that it took too long. */
  probes: Probes;
  log: Logger;
  metrics: Registry;
  /** Deadline of an exec whose caller named none, milliseconds. */
  execTimeoutMs: number;
  /** Unix milliseconds. */
  clock: () => number;
}

export interface Probes {
  /** Nothing works without it. */
  database: Probe;
  /** What is there goes on, and much of it works, without these. */
  fly: Probe;
  storage: Probe;
  /** Absent where there is no egress proxy, or this controller can't reach it. */
  egress?: Probe;
}

export type Probe = (signal: AbortSignal) => Promise<unknown>;

export interface CallOptions {
  /** For the event log, e.g. `api:<key id>`. */
  actor: string;
  /** How long to wait for the outcome, milliseconds; 0 returns at once. Default: the controller's start deadline. */
  waitMs?: number;
}

export interface OpenOptions extends CallOptions {
  /** Of the saved files; default the newest. */
  version?: number;
}

export interface StopOptions extends CallOptions {
  reason?: string;
  /** Between SIGTERM and SIGKILL to what still runs. Default: the stack's setting. */
  graceMs?: number;
  /** What can't be saved is given up. */
  discardUnsaved?: boolean;
}

export interface SessionFiles {
  save(sandbox: SandboxRow): Promise<SaveOutcome>;
  /** What the newest saved version does not have. */
  unsaved(sandbox: SandboxRow): Promise<Unsaved>;
  /** The whole workspace as a tar, read as it is taken. */
  rescue(sandbox: SandboxRow): Promise<{ body: Readable }>;
}

/** What is known of execs beyond the sandbox that ran them. See sessions/exec-registry.ts. */
export interface ExecIds {
  register(exec: NewExec): Promise<RegisteredExec>;
  startFailed(registered: RegisteredExec, error: unknown): Promise<void>;
  find(sessionId: string, id: string): Promise<ExecRow | null>;
  /** Returns at once. */
  ended(sessionId: string, id: string, end: ExecEnd): void;
}

export interface SessionManager {
  createSandbox(spec: SandboxRequest, options: CallOptions): Promise<SessionRow & { created?: boolean }>;
  getSandbox(sessionId: string): Promise<SessionView>;
  destroySandbox(sessionId: string, options: StopOptions): Promise<SessionRow>;
  /** The open connection to the session's agent; waits a little for one that is dialing. */
  link(sessionId: string): Promise<SessionLink>;
  /** The same while the session is being stopped, too: for what changes nothing. */
  linkAny(sessionId: string): Promise<SessionLink>;
}

export interface SessionView {
  session: SessionRow;
  sandbox: SandboxRow | null;
  connected: boolean;
}

export interface SessionLink {
  link: Agent;
  session: SessionRow;
  sandbox: SandboxRow;
}

/** The part of `AgentLink` that the routes use. */
export interface Agent {
  request(request: AgentRequest): Promise<AgentReply>;
}

export interface AgentReply {
  status: number;
  headers: Record<string, string | string[] | number | undefined>;
  /** Bytes of the body, where the agent announced it. */
  length: number | undefined;
  body: Readable;
  /** The body as JSON; throws the agent's error as `CodedError` where the status is one. */
  expect<T>(): Promise<T>;
}

/** A page's worth of rows in the order of their ids, after the one named. */
export interface PageQuery<Id> {
  after?: Id;
  limit: number;
}

export interface ApiStore {
  listSessions(query: PageQuery<string> & { status?: SessionStatus }): Promise<SessionRow[]>;
  listSessionEvents(sessionId: string, query: PageQuery<number>): Promise<SessionEventRow[]>;
  enqueueJob(job: NewJob): Promise<{ job: JobRow; created: boolean }>;
  /** Rejects with `job_not_found`. */
  getJob(id: string): Promise<JobRow>;
  listJobs(query: PageQuery<string> & { sessionId?: string; status?: JobStatus }): Promise<JobRow[]>;
  listJobOutput(jobId: string, query: PageQuery<number>): Promise<JobOutputRow[]>;
  cancelJob(id: string, actor: string): Promise<JobRow>;
  /** The live key with this SHA-256 (hex), or null. */
  checkApiKey(sha256: string): Promise<{ id: string; name: string } | null>;
}
