/** The rows of `supabase/migrations` as supabase-js delivers them. `bigint` columns stay below 2^53. Times are ISO 8601 strings. */

export interface SessionSettings {
  region: string;
  cpu_kind: 'shared' | 'performance';
  cpus: number;
  memory_mb: number;
}

/**
 * `stopped` no sandbox · `starting` → `ready` · `unresponsive` its agent does not answer · `stopping` files are being saved, then the machine goes ·
 * `failed` the last start failed, or the machine was lost: `error` says why; may be opened again.
 */
export type SessionStatus = 'stopped' | 'starting' | 'ready' | 'unresponsive' | 'stopping' | 'failed';

/** Whether the session's files can be saved: what the last try said. */
export interface SaveState {
  state: 'ok' | 'failing';
  since: string | null;
  attempts: number;
  code: string | null;
  detail: string | null;
  /** Of the last save that succeeded. */
  at?: string | null;
}

export interface SessionRow {
  id: string;
  settings: SessionSettings;
  status: SessionStatus;
  /** Number of sandboxes the session has had; names the newest. */
  incarnation: number;
  /** Fencing token of the newest incarnation; only grows. */
  fence: number;
  /** Fly machine id of the live sandbox, null while there is none. */
  sandbox_id: string | null;
  sandbox_region: string | null;
  /** Newest committed manifest version; 0: nothing saved yet. */
  head: number;
  error: { code: string; detail: string } | null;
  save: SaveState;
  last_active_at: string;
  created_at: string;
  updated_at: string;
}

/**
 * `planned` row written, machine not confirmed · `created` Fly answered with a machine id · `ready` agent connected, files
 * restored · `stopping` to be saved, then destroyed · `destroying` saved or given up, machine to be destroyed · `gone` final.
 */
export type SandboxState = 'planned' | 'created' | 'ready' | 'stopping' | 'destroying' | 'gone';

export interface SandboxRow {
  /** `s-<session>-<incarnation>`, also the machine's name. */
  name: string;
  session_id: string;
  incarnation: number;
  fence: number;
  /** Fly app that holds the machine. */
  app: string;
  machine_id: string | null;
  region: string | null;
  state: SandboxState;
  /** Why it left `ready` (or never got there). */
  reason: string | null;
  created_at: string;
  updated_at: string;
  ready_at: string | null;
  gone_at: string | null;
}

/** A Fly app that sandboxes of this stack live in, or have lived in. */
export interface CellRow {
  app: string;
  stack: string;
  created_at: string;
  /** Base URL of the controller that works for it, as other controllers reach it; null while none does. */
  holder: string | null;
  /** Fencing token of the latest lease; only grows. */
  token: number | null;
  expires_at: string | null;
}

export interface ManifestRow {
  session_id: string;
  version: number;
  base: number;
  /** Of the gzipped manifest; its key is `s/<session>/m/<sha256>`. */
  sha256: string;
  bytes: number;
  packs: { sha256: string; bytes: number }[];
  files: number;
  file_bytes: number;
  created_at: string;
}

export type JobStatus = 'queued' | 'running' | 'succeeded' | 'failed' | 'canceled';

export interface JobSpec {
  command: string[] | string;
  cwd?: string;
  env?: Record<string, string>;
  timeout_ms?: number;
}

export interface JobRow {
  id: string;
  /** Order of arrival; the jobs of one session run in this order. */
  seq: number;
  session_id: string;
  spec: JobSpec;
  status: JobStatus;
  /** Claims so far. */
  attempts: number;
  max_attempts: number;
  owner: string | null;
  /** Fencing token of the latest claim; kept when that has ended. */
  token: number | null;
  lease_until: string | null;
  /** True once the exec may have started: from then on a lost lease ends the job instead of repeating it. */
  started: boolean;
  cancel_requested: boolean;
  /** `ExecResult` (controller/agents/wire.ts) and the like, once ended. */
  result: JobResult | null;
  run_at: string;
  created_at: string;
  updated_at: string;
  ended_at: string | null;
}

export interface JobResult {
  result: { kind: string; code?: number; signal?: string; reason?: string; timeout_ms?: number };
  stdout_bytes: number;
  stderr_bytes: number;
  duration_ms: number;
  /** The kernel killed a process of it for memory. */
  oom_killed?: boolean;
}

export interface JobOutputRow {
  job_id: string;
  seq: number;
  stream: 'stdout' | 'stderr';
  /** Byte offset of `data` in its stream. */
  byte_offset: number;
  /** UTF-8 text, or base64 when `encoding` says so. */
  data: string;
  encoding: 'utf8' | 'base64';
}

export interface SessionEventRow {
  id: number;
  session_id: string;
  sandbox: string | null;
  /** e.g. `session.created`, `sandbox.planned`, `sandbox.ready`, `session.stopping`, `manifest.committed`. */
  kind: string;
  /** Who: `api:<key id>`, `lifecycle`, `jobs`, `agent`, `operator`. */
  actor: string;
  reason: string | null;
  /**
   * The fields that this transition set, so that replaying gives the state: `session` and `sandbox` (the one named above), `job` (with its
   * id, never its spec), `manifest` (without its packs).
   */
  data: Partial<Record<'session' | 'sandbox' | 'job' | 'manifest', Record<string, unknown>>>;
  at: string;
}
