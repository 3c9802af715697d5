import { createHash } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import pino from 'pino';
import { Registry } from 'prom-client';
import type { AgentLink } from '../../../controller/agents/link.ts';
import type { ApiDeps, SessionLink, StopOptions } from '../../../controller/api/deps.ts';
import { buildApi } from '../../../controller/api/index.ts';
import { CodedError } from '../../../controller/errors.ts';
import { ExecRegistry } from '../../../controller/sessions/exec-registry.ts';
import type { ExecRow, NewExec, RegisteredExec } from '../../../controller/store/execs.ts';
import type { NewJob } from '../../../controller/store/jobs.ts';
import type { JobOutputRow, JobRow, SandboxRow, SessionRow } from '../../../controller/store/rows.ts';
import { FakeAgent } from './fake-agent.ts';

export const API_KEY = 'mvk_test_key_000001';
export const REVOKED_KEY = 'mvk_test_key_000002';

interface OpenSession {
  row: SessionRow;
  sandbox: SandboxRow | null;
  agent: FakeAgent | null;
  link: AgentLink | null;
}

/** The HTTP API on real sockets, over a controller that lives in memory and has one fake agent for each open session. */
export class Harness {
  readonly app: FastifyInstance;
  readonly url: string;
  readonly fake: FakeController;

  private constructor(app: FastifyInstance, url: string, fake: FakeController) {
    this.app = app;
    this.url = url;
    this.fake = fake;
  }

  static async start(change: (deps: ApiDeps) => ApiDeps = (deps) => deps): Promise<Harness> {
    const fake = new FakeController();
    const app = await buildApi(change(fake.deps()));
    await app.listen({ host: '127.0.0.1', port: 0 });
    const { port } = app.server.address() as AddressInfo;
    return new Harness(app, `http://127.0.0.1:${port}`, fake);
  }

  /** A request with the good key. */
  fetch(path: string, init: RequestInit = {}): Promise<AnyJson> {
    const headers = new Headers(init.headers);
    if (!headers.has('authorization')) headers.set('authorization', `Bearer ${API_KEY}`);
    if (typeof init.body === 'string' && !headers.has('content-type')) {
      headers.set('content-type', 'application/json');
    }
    return fetch(this.url + path, { ...init, headers });
  }

  /** The same, with the JSON of the answer. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every kind
  async json(path: string, init: RequestInit = {}): Promise<any> {
    return (await this.fetch(path, init)).json();
  }

  /** Breaks every connection of every client. */
  cutClients(): void {
    this.app.server.closeAllConnections();
  }

  async close(): Promise<void> {
    this.app.server.closeAllConnections();
    await this.app.close();
    await this.fake.close();
  }
}

/** Tests look into answers of every kind. */
// biome-ignore lint/suspicious/noExplicitAny: said above
type AnyJson = Omit<Response, 'json'> & { json(): Promise<any> };

export class FakeController {
  readonly sessions = new Map<string, OpenSession>();
  readonly jobs = new Map<string, JobRow>();
  /** By `session id`. */
  readonly execs = new Map<string, ExecRow>();
  /** What was asked of the next one: how to stop, which version to open. */
  readonly asked: object[] = [];
  /** What a stop fails with. */
  stopFails: CodedError | null = null;
  rescue: () => Readable = () => Readable.from([Buffer.from('tar')]);
  readonly jobOutput = new Map<string, JobOutputRow[]>();
  readonly logLines: string[] = [];
  readonly actors: string[] = [];
  keyChecks = 0;
  healthy = { database: true, fly: true, storage: true, egress: true };
  /** Makes `link` fail as if the agent could not be reached. */
  unreachable = false;
  /** What a creation waits for. */
  mayCreate: Promise<void> = Promise.resolve();

  deps(): ApiDeps {
    const log = pino({ level: 'info' }, { write: (text: string) => void this.logLines.push(text) });
    return {
      manager: {
        createSandbox: async ({ sessionId, region }, { actor }) => {
          this.actors.push(actor);
          await this.mayCreate;
          const existing = this.sessions.get(sessionId);
          if (existing && region && existing.row.settings.region !== region) {
            throw new CodedError('session_conflict', `${sessionId} exists with other settings`);
          }
          if (existing?.sandbox) return { ...existing.row, created: false };
          return { ...(await this.open(sessionId, region)), created: !existing };
        },
        getSandbox: async (id) => {
          const { row, sandbox } = this.session(id);
          return { session: row, sandbox, connected: sandbox !== null };
        },
        destroySandbox: async (id, { actor: _, ...options }: StopOptions) => {
          this.asked.push(options);
          const failure = options.discardUnsaved ? null : this.stopFails;
          if (failure !== null) throw failure;
          return this.stop(id);
        },
        link: async (id) => {
          if (this.session(id).row.status === 'stopping')
            throw new CodedError('session_stopping', `${id} is being stopped`);
          return this.linkAny(id);
        },
        linkAny: (id) => this.linkAny(id),
      },
      lifecycle: {
        startSandbox: async (id, { actor: _, ...options }) => {
          this.asked.push(options);
          return this.session(id).sandbox ? this.session(id).row : this.open(id);
        },
      },
      files: {
        save: async () => ({ version: 1, changed: true, files: 2, bytes: 3 }),
        unsaved: async ({ incarnation }) => ({
          ...{ base: incarnation, known: true, files: 2, bytes: 10 },
          paths: ['a.txt', 'b.txt'],
        }),
        rescue: async () => ({ body: this.rescue() }),
      },
      execs: new ExecRegistry({ store: this.execStore(), log }),
      jobs: { poke: () => {} },
      store: {
        listSessions: async ({ after = '', limit, status }) =>
          [...this.sessions.values()]
            .map(({ row }) => row)
            .filter(({ id, status: is }) => id > after && (status === undefined || is === status))
            .sort((a, b) => (a.id < b.id ? -1 : 1))
            .slice(0, limit),
        listSessionEvents: async () => [],
        enqueueJob: async (job) => this.enqueue(job),
        getJob: async (id) => this.job(id),
        listJobs: async ({ after = '', limit }) =>
          [...this.jobs.values()]
            .filter(({ id }) => id > after)
            .sort((a, b) => (a.id < b.id ? -1 : 1))
            .slice(0, limit),
        listJobOutput: async (id, { after = 0, limit }) =>
          (this.jobOutput.get(id) ?? []).filter(({ seq }) => seq > after).slice(0, limit),
        cancelJob: async (id) => Object.assign(this.job(id), { status: 'canceled', ended_at: now() }),
        checkApiKey: async (sha256) => {
          this.keyChecks++;
          return sha256 === createHash('sha256').update(API_KEY).digest('hex')
            ? { id: 'k1', name: 'test' }
            : null;
        },
      },
      elsewhere: async () => null,
      probes: {
        database: async () => this.probe('database'),
        fly: async () => this.probe('fly'),
        storage: async () => this.probe('storage'),
        egress: async () => this.probe('egress'),
      },
      log,
      metrics: new Registry(),
      execTimeoutMs: 300_000,
      clock: Date.now,
    };
  }

  async linkAny(id: string): Promise<SessionLink> {
    const { row, sandbox, agent } = this.session(id);
    if (sandbox === null || agent === null) throw new CodedError('session_not_open', `${id} is stopped`);
    if (this.unreachable) throw new CodedError('agent_unreachable', 'The agent is not connected');
    return { link: await this.link(id), session: row, sandbox };
  }

  /** As the database would: see the migration of execs. */
  private execStore() {
    const key = (sessionId: string, id: string) => `${sessionId} ${id}`;
    return {
      registerExecs: async (all: NewExec[]) => all.map((exec) => this.register(exec)),
      withdrawExec: async ({ sessionId, id }: Pick<NewExec, 'sessionId' | 'id'>) => {
        const row = this.execs.get(key(sessionId, id));
        return row?.asked === 1 && row.end === null && this.execs.delete(key(sessionId, id));
      },
      findExec: async (sessionId: string, id: string) => this.execs.get(key(sessionId, id)) ?? null,
      recordExecEnds: async (sessionId: string, ends: { id: string; end: ExecRow['end'] }[]) => {
        for (const { id, end } of ends) {
          const row = this.execs.get(key(sessionId, id));
          if (row !== undefined) Object.assign(row, { end: row.end ?? end, ended_at: row.ended_at ?? now() });
        }
        return ends.length;
      },
    };
  }

  private register({ sessionId, id, ...more }: NewExec): RegisteredExec | CodedError {
    const known = this.execs.get(`${sessionId} ${id}`);
    if (known !== undefined) {
      known.asked += 1;
      return { created: false, exec: { ...known } };
    }
    const { sandbox } = this.session(sessionId);
    if (sandbox === null) return new CodedError('session_not_open', `${sessionId} is stopped`);
    const { key: command_key, ...rest } = more;
    const row = { session_id: sessionId, id, ...rest, command_key };
    const exec = { ...row, asked: 1, started_at: now(), ended_at: null, end: null };
    this.execs.set(`${sessionId} ${id}`, exec);
    return { created: true, exec: { ...exec } };
  }

  session(id: string): OpenSession {
    const found = this.sessions.get(id);
    if (!found) throw new CodedError('session_not_found', `There is no session "${id}"`);
    return found;
  }

  agent(id: string): FakeAgent {
    return this.session(id).agent!;
  }

  async open(id: string, region = 'sjc'): Promise<SessionRow> {
    const incarnation = (this.sessions.get(id)?.row.incarnation ?? 0) + 1;
    const row = sessionRow(id, region, incarnation);
    const sandbox = sandboxRow(row);
    this.sessions.set(id, { row, sandbox, agent: await FakeAgent.start(), link: null });
    return row;
  }

  /** The sandbox goes, with all that runs in it. */
  async stop(id: string): Promise<SessionRow> {
    const session = this.session(id);
    const { agent, link } = session;
    // First gone for everyone who asks, then in fact.
    Object.assign(session, { sandbox: null, agent: null, link: null });
    session.row = { ...session.row, status: 'stopped', sandbox_id: null };
    link?.close('stopped');
    await agent?.close();
    return session.row;
  }

  async link(id: string): Promise<AgentLink> {
    const session = this.session(id);
    if (!session.link?.connected) {
      session.link = await session.agent!.link(session.sandbox!.name, session.sandbox!.incarnation);
    }
    return session.link;
  }

  enqueue({ id, sessionId, spec, maxAttempts }: NewJob): { job: JobRow; created: boolean } {
    this.session(sessionId);
    const existing = this.jobs.get(id);
    if (existing) return { job: existing, created: false };
    const job = jobRow(id, sessionId, spec, maxAttempts);
    this.jobs.set(id, job);
    return { job, created: true };
  }

  job(id: string): JobRow {
    const job = this.jobs.get(id);
    if (!job) throw new CodedError('job_not_found', `There is no job "${id}"`);
    return job;
  }

  say(jobId: string, stream: 'stdout' | 'stderr', data: string): void {
    const rows = this.jobOutput.get(jobId) ?? [];
    const before = rows.filter((row) => row.stream === stream);
    const byte_offset = before.reduce((sum, row) => sum + Buffer.byteLength(row.data), 0);
    rows.push({ job_id: jobId, seq: rows.length + 1, stream, byte_offset, data, encoding: 'utf8' });
    this.jobOutput.set(jobId, rows);
  }

  async close(): Promise<void> {
    for (const id of this.sessions.keys()) await this.stop(id);
  }

  private probe(name: keyof FakeController['healthy']): void {
    if (!this.healthy[name]) throw new Error('down');
  }
}

const now = () => new Date().toISOString();

function sessionRow(id: string, region: string, incarnation: number): SessionRow {
  return {
    id,
    settings: { region, cpu_kind: 'shared', cpus: 1, memory_mb: 512 },
    status: 'ready',
    incarnation,
    fence: 41 + incarnation,
    sandbox_id: '9080e6f3a12345',
    sandbox_region: region,
    head: 0,
    error: null,
    save: { state: 'ok', since: null, code: null, detail: null },
    save_attempts: 0,
    last_active_at: now(),
    created_at: now(),
    updated_at: now(),
  };
}

function sandboxRow({ id, incarnation, fence }: SessionRow): SandboxRow {
  return {
    name: `s-${id}-${incarnation}`,
    session_id: id,
    incarnation,
    fence,
    app: 'cell',
    machine_id: '9080e6f3a12345',
    region: 'sjc',
    state: 'ready',
    reason: null,
    created_at: now(),
    updated_at: now(),
    ready_at: now(),
    gone_at: null,
    stopping_at: null,
    sealing_at: null,
    grace_ms: null,
    discard_unsaved: false,
    restore_version: null,
    unresponsive_since: null,
    agent_boot: null,
  };
}

function jobRow(id: string, session_id: string, spec: JobRow['spec'], max_attempts: number): JobRow {
  return {
    id,
    seq: 1,
    session_id,
    spec,
    status: 'queued',
    attempts: 0,
    max_attempts,
    owner: 'secret-owner',
    token: 7,
    lease_until: null,
    started: false,
    cancel_requested: false,
    result: null,
    run_at: now(),
    created_at: now(),
    updated_at: now(),
    ended_at: null,
  };
}
