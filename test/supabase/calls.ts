import { randomBytes } from 'node:crypto';
import type { Pool } from 'pg';
import type { Renewal } from '../../controller/store/cells.ts';
import type { RegisteredExec } from '../../controller/store/execs.ts';
import type { Opened } from '../../controller/store/index.ts';
import type {
  CellRow,
  JobRow,
  ManifestRow,
  SandboxRow,
  SessionEventRow,
  SessionRow,
} from '../../controller/store/rows.ts';
import { type CallOptions, only, rpcOn } from './rpc.ts';

export const SETTINGS = { region: 'sjc', cpu_kind: 'shared', cpus: 1, memory_mb: 512 } as const;
export const SHA = (digit: string) => digit.repeat(64);

type Fenced = Pick<SandboxRow, 'name' | 'fence'>;
type Claim = Pick<JobRow, 'id' | 'token'>;

/** Each function of the database, with the arguments that tests rarely care about filled in. */
export function callsOn(pool: Pool) {
  const rpc = rpcOn(pool);
  return {
    open: (id: string, settings: object | null = SETTINGS, options?: CallOptions, app = 'cell') =>
      only(
        rpc<Opened>('session_open', { p_id: id, p_settings: settings, p_app: app, p_actor: 'test' }, options),
      ),
    /** With the arguments of later versions of the function. */
    openAt: (id: string, more: { version?: number; startsPerHour?: number }, options?: CallOptions) =>
      only(
        rpc<Opened>(
          'session_open',
          {
            p_id: id,
            p_settings: null,
            p_app: 'cell',
            p_actor: 'test',
            p_version: more.version ?? null,
            p_starts_per_hour: more.startsPerHour ?? null,
          },
          options,
        ),
      ),
    created: ({ name, fence }: Fenced, machine: string, options?: CallOptions) =>
      only(
        rpc<SandboxRow>(
          'sandbox_created',
          { p_name: name, p_fence: fence, p_machine_id: machine, p_region: 'sjc', p_actor: 'test' },
          options,
        ),
      ),
    ready: ({ name, fence }: Fenced, options?: CallOptions) =>
      only(rpc<SandboxRow>('sandbox_ready', { p_name: name, p_fence: fence, p_actor: 'test' }, options)),
    stop: (id: string, reason = 'asked', options?: CallOptions, discard = false) =>
      only(
        rpc<{ session: SessionRow; sandbox: SandboxRow | null }>(
          'session_stop',
          { p_id: id, p_reason: reason, p_actor: 'test', p_discard: discard },
          options,
        ),
      ),
    destroying: (
      { name, fence }: Fenced,
      reason = 'saved',
      options?: CallOptions,
      head: number | null = null,
    ) =>
      only(
        rpc<SandboxRow>(
          'sandbox_destroying',
          { p_name: name, p_fence: fence, p_reason: reason, p_actor: 'test', p_head: head },
          options,
        ),
      ),
    sealing: ({ name, fence }: Fenced, options?: CallOptions) =>
      only(rpc<SandboxRow>('sandbox_sealing', { p_name: name, p_fence: fence, p_actor: 'test' }, options)),
    discard: ({ name, fence }: Fenced, keepMs: number, lost: object | null = null, options?: CallOptions) =>
      only(
        rpc<SandboxRow>(
          'sandbox_discard',
          {
            p_name: name,
            p_fence: fence,
            p_keep_ms: keepMs,
            p_reason: 'failed save_failed: given up',
            p_lost: lost,
            p_actor: 'test',
          },
          options,
        ),
      ),
    releaseSession: (
      { name, fence }: Fenced,
      error: { code: string; detail: string } | null = null,
      options?: CallOptions,
    ) =>
      only(
        rpc<SandboxRow>(
          'session_release',
          { p_name: name, p_fence: fence, p_error: error, p_actor: 'test' },
          options,
        ),
      ),
    unresponsive: ({ name, fence }: Fenced, unresponsive: boolean, options?: CallOptions) =>
      only(
        rpc<SandboxRow>(
          'sandbox_unresponsive',
          { p_name: name, p_fence: fence, p_unresponsive: unresponsive, p_reason: 'silent', p_actor: 'test' },
          options,
        ),
      ),
    agentRestarted: ({ name, fence }: Fenced, boot: string, options?: CallOptions) =>
      only(
        rpc<SandboxRow>(
          'sandbox_agent_restarted',
          { p_name: name, p_fence: fence, p_boot: boot, p_reason: 'out_of_memory', p_actor: 'test' },
          options,
        ),
      ),
    saveFailed: ({ name, fence }: Fenced, code: string, options?: CallOptions) =>
      only(
        rpc<SessionRow>(
          'save_failed',
          { p_name: name, p_fence: fence, p_code: code, p_detail: `it was ${code}`, p_actor: 'test' },
          options,
        ),
      ),
    saveDone: ({ name, fence }: Fenced, options?: CallOptions) =>
      only(rpc<SessionRow>('save_done', { p_name: name, p_fence: fence, p_actor: 'test' }, options)),
    refused: ({ id, token }: Claim, options?: CallOptions) =>
      only(
        rpc<JobRow>(
          'job_refused',
          { p_id: id, p_token: token, p_reason: 'the sandbox is being stopped', p_delay_ms: 0 },
          options,
        ),
      ),
    gone: (
      { name, fence }: Fenced,
      error: { code: string; detail: string } | null = null,
      options?: CallOptions,
    ) =>
      only(
        rpc<SandboxRow>(
          'sandbox_gone',
          { p_name: name, p_fence: fence, p_reason: 'destroyed', p_error: error, p_actor: 'test' },
          options,
        ),
      ),
    declare: (stack: string, apps: string[], options?: CallOptions) =>
      rpc<CellRow>('cells_declare', { p_stack: stack, p_apps: apps, p_actor: 'test' }, options),
    renew: (
      holder: string,
      apps: string[] = [],
      held: Record<string, number> = {},
      options?: CallOptions,
      leaseMs = 1000,
      able?: boolean,
    ) =>
      only(
        rpc<Renewal>(
          'cells_renew',
          {
            ...{ p_stack: 'prod', p_apps: apps, p_holder: holder, p_held: held },
            ...{ p_lease_ms: leaseMs, p_actor: 'test' },
            ...(able !== undefined && { p_able: able }),
          },
          options,
        ),
      ),
    hold: (app: string, holder: string, options?: CallOptions, leaseMs = 1000) =>
      only(
        rpc<CellRow>(
          'cell_hold',
          { p_app: app, p_holder: holder, p_lease_ms: leaseMs, p_actor: 'test' },
          options,
        ),
      ),
    releaseCell: (app: string, token: number) =>
      rpc('cell_release', { p_app: app, p_token: token, p_actor: 'test' }),
    purge: (keepMs: number, limit: number, options?: CallOptions) =>
      only(rpc<number>('purge', { p_keep_ms: keepMs, p_limit: limit }, options)),
    leave: (holder: string) => rpc('controller_leave', { p_holder: holder }),
    /** A move of a sandbox, for whoever holds its cell with this token. */
    underLease: (move: string, { name, fence }: Fenced, lease: number, more: Record<string, unknown> = {}) =>
      rpc<SandboxRow>(move, { p_name: name, p_fence: fence, p_actor: 'test', p_lease: lease, ...more }),
    forget: (app: string, stack: string) =>
      only(rpc<boolean>('cell_forget', { p_app: app, p_stack: stack, p_actor: 'test' })),
    touch: (id: string, options?: CallOptions) => rpc('session_touch', { p_id: id }, options),
    commit: (session: string, fence: number, base: number, sha256: string, options?: CallOptions) =>
      only(
        rpc<ManifestRow>(
          'manifest_commit',
          {
            ...{ p_session: session, p_fence: fence, p_base: base, p_sha256: sha256, p_bytes: 10 },
            ...{ p_packs: [{ sha256, bytes: 5 }], p_files: 2, p_file_bytes: 7, p_actor: 'test' },
          },
          options,
        ),
      ),
    enqueue: (
      id: string,
      session: string,
      spec: object = { command: 'true' },
      maxAttempts = 3,
      options?: CallOptions,
    ) =>
      only(
        rpc<{ job: JobRow; created: boolean }>(
          'job_enqueue',
          { p_id: id, p_session: session, p_spec: spec, p_max_attempts: maxAttempts, p_actor: 'test' },
          options,
        ),
      ),
    claim: (owner: string, max = 10, options?: CallOptions, leaseMs = 30_000, apps?: string[]) =>
      rpc<JobRow>(
        'jobs_claim',
        { p_owner: owner, p_lease_ms: leaseMs, p_max: max, ...(apps && { p_apps: apps }) },
        options,
      ),
    started: ({ id, token }: Claim, options?: CallOptions) =>
      only(rpc<JobRow>('job_started', { p_id: id, p_token: token }, options)),
    heartbeat: ({ id, token }: Claim, options?: CallOptions, leaseMs = 30_000) =>
      only(rpc<JobRow>('job_heartbeat', { p_id: id, p_token: token, p_lease_ms: leaseMs }, options)),
    append: (
      { id, token }: Claim,
      offset: number,
      data: string,
      encoding: 'utf8' | 'base64' = 'utf8',
      stream: 'stdout' | 'stderr' = 'stdout',
    ) =>
      rpc('job_append_output', {
        ...{ p_id: id, p_token: token, p_stream: stream },
        ...{ p_byte_offset: offset, p_data: data, p_encoding: encoding },
      }),
    release: ({ id, token }: Claim, delayMs = 0, options?: CallOptions) =>
      only(rpc<JobRow>('job_release', { p_id: id, p_token: token, p_delay_ms: delayMs }, options)),
    finish: ({ id, token }: Claim, status = 'succeeded', options?: CallOptions) =>
      only(
        rpc<JobRow>('job_finish', { p_id: id, p_token: token, p_status: status, p_result: RESULT }, options),
      ),
    cancel: (id: string, options?: CallOptions) =>
      only(rpc<JobRow>('job_cancel', { p_id: id, p_actor: 'test' }, options)),

    register: (session: string, id: string, incarnation = 1, key = 'k') =>
      only(
        rpc<RegisteredExec>('exec_register', {
          ...{ p_session: session, p_id: id, p_incarnation: incarnation, p_key: key, p_actor: 'test' },
        }),
      ),

    /** A session whose sandbox is ready, on a machine named after it. */
    async readySession(id = `s${randomBytes(6).toString('hex')}`): Promise<SandboxRow> {
      const { sandbox } = await this.open(id);
      await this.created(sandbox, `machine-${sandbox.name}`);
      return this.ready(sandbox);
    },
    async session(id: string): Promise<SessionRow> {
      const { rows } = await pool.query('select to_jsonb(s) as row from coding_sessions s where id = $1', [
        id,
      ]);
      return rows[0]?.row;
    },
    async job(id: string): Promise<JobRow> {
      const { rows } = await pool.query('select to_jsonb(j) as row from jobs j where id = $1', [id]);
      return rows[0]?.row;
    },
    async events(session: string): Promise<SessionEventRow[]> {
      const { rows } = await pool.query(
        'select to_jsonb(e) as row from session_events e where session_id = $1 order by id',
        [session],
      );
      return rows.map(({ row }) => row);
    },
  };
}

export type Calls = ReturnType<typeof callsOn>;

const RESULT = { result: { kind: 'exited', code: 0 }, stdout_bytes: 0, stderr_bytes: 0, duration_ms: 1 };
