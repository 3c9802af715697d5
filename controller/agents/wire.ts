/**
 * What controller and agent say to each other. Both import this file, `socket-stream.ts` and `lane-stream.ts`; this one imports nothing.
 *
 * The agent dials `MOBVIBE_AGENT_DIAL_URL` as a WebSocket with `Authorization: Bearer <agent token>` and serves HTTP/2 on that
 * socket; the controller is the HTTP/2 client. Errors are `application/json` `{ code, detail, field? }` with a code of
 * `controller/errors.ts`. Times are Unix milliseconds, durations milliseconds, sizes and offsets bytes.
 *
 * | request | body → answer |
 * | --- | --- |
 * | `GET /health` | → `AgentHealth`; proves the disk by a write |
 * | `PUT /execs/{id}` | `ExecSpec` → 201 (new) or 200 (same spec again) `ExecInfo`; other spec: 409 `exec_conflict` |
 * | `PUT /execs/{id}?follow=1` | the same, answered by the NDJSON stream of `ExecEvent` from offset 0 |
 * | `GET /execs`, `GET /execs/{id}` | → `ExecInfo[]`, `ExecInfo` |
 * | `GET /execs/{id}/output?stdout=N&stderr=N` | → NDJSON stream of `ExecEvent` from these offsets, followed to the end |
 * | `POST /execs/{id}/stdin?offset=N&eof=1` | bytes → `{ received }`; bytes below what was received are dropped, a gap is 409 `stdin_conflict` |
 * | `POST /execs/{id}/signal` | `{ signal }` → 204; to the whole process group. Ended: 409 `exec_ended` |
 * | `GET /files?path=&offset=&length=` | → bytes, on the lane where one is offered and pays; headers `x-mobvibe-stat`: JSON `FileStat` (URI-encoded) |
 * | `PUT /files?path=&mode=644` | bytes, on the lane where one is offered → `FileStat`; parents are made, replacement is atomic |
 * | `GET /files/stat?path=` | → `FileStat` (of a symlink itself) |
 * | `GET /files/list?path=&recursive=1` | → NDJSON of `FileStat`, sorted by path |
 * | `DELETE /files?path=&recursive=1` | → 204 |
 * | `POST /files/mkdir` `/files/move` `/files/symlink` | `{ path }`, `{ from, to }`, `{ path, target }` → `FileStat` |
 * | `POST /workspace/pack` | `PackRequest` → `LongAnswer<PackResult>`: walks, hashes and packs into a spool in the machine; uploads nothing |
 * | `POST /workspace/upload` | `UploadRequest` → `LongAnswer<UploadResult>` once every PUT was answered with 2xx |
 * | `POST /workspace/restore` | `RestoreRequest` → `LongAnswer<RestoreResult>`; safe to repeat with the same version |
 * | `POST /workspace/unsaved` | `UnsavedRequest` → `Unsaved` |
 * | `GET /workspace/tar` | → `application/x-tar` of what a save would hold, on the lane where one is offered |
 * | `POST /seal` | `SealRequest` → `SealResult` once no process of the user is left; from then on nothing changes any more |
 *
 * **Long answers.** What takes long tells how it goes, one JSON value a line, so that the caller can tell slow from dead: it gives up
 * when no line came for 60 s. An error within the first second may be answered with its status instead, like any other.
 *
 * **Lanes.** HTTP/2 costs more than the bytes it carries, and a large file would delay all else on the socket. So a large body
 * travels on a lane: a WebSocket of its own. The controller offers one by the header `x-mobvibe-lane: <id>` of a request; the
 * agent dials the same URL with the same token and that same header. The body is binary messages and, at its end, an empty one;
 * then the receiver closes the socket. An answer whose body is on the lane says so by `x-mobvibe-lane: <length>`, or `?` where that is not known. A lane lives no
 * longer than the HTTP/2 stream of its request, which the agent ends after it. Lanes are offered only to an agent that said
 * `x-mobvibe-lanes: 1` when it dialed.
 */

export const LANE_HEADER = 'x-mobvibe-lane';
export const LANES_HEADER = 'x-mobvibe-lanes';
/** When an agent dials: a random name of its process, and why init had to start it anew in its machine, where it did. */
export const BOOT_HEADER = 'x-mobvibe-boot';
export const RESTARTED_HEADER = 'x-mobvibe-restarted';
/** A shorter body is done before a lane is dialed. */
export const LANE_FROM_BYTES = 1024 * 1024;

/** Environment of the agent. */
export interface AgentEnv {
  /** `ws://`, `wss://` or `ws+unix:/socket:/path`. */
  MOBVIBE_AGENT_DIAL_URL: string;
  /** `<sandbox name>.<HMAC>`: made for this machine alone. */
  MOBVIBE_AGENT_TOKEN: string;
  /** `s-<session>-<incarnation>`. */
  MOBVIBE_SANDBOX: string;
  /** Fencing token of the sandbox, a decimal number. Absent: 0. */
  MOBVIBE_FENCE?: string;
  /** How user code is run: `1000:1000` (uid:gid, the agent is root) or `nested` (user namespace made by the agent). */
  MOBVIBE_AGENT_USER?: string;
  /** Proxy for uploads to and downloads from storage: `unix:/socket` or `http://host:port` (CONNECT). Absent: direct. */
  MOBVIBE_EGRESS_PROXY_URL?: string;
  /** The agent ends itself, and with it the machine, when no controller was reached for so long. Default 1800000. */
  MOBVIBE_AGENT_ORPHAN_TIMEOUT_MS?: string;
}

export interface AgentHealth {
  sandbox: string;
  /** Random, made when the agent starts: another value is another machine or boot. */
  boot_id: string;
  version: string;
  started_at: number;
  /** Duration of the disk's proof: write, fsync, read back, remove. */
  disk_ms: number;
  workspace: WorkspaceState;
  running_execs: number;
}

/** `pristine` until the first restore (version 0 restores nothing and makes it `ready`). */
export type WorkspaceState =
  | { state: 'pristine' }
  | { state: 'restoring'; version: number }
  | { state: 'ready'; version: number };

export interface ExecSpec {
  /** Run as it stands, or one string for `bash -c` (`sh -c` where there is no bash). */
  command: string[] | string;
  /** Absolute, or relative to `/workspace`; one that user code may enter. Default `/workspace`. */
  cwd?: string;
  /** Added to the sandbox's own environment, in which `SANDBOX_EXEC_ID` is the id of the exec. */
  env?: Record<string, string>;
  /** The whole group gets SIGTERM then, and SIGKILL 5 s later, as do those who left it and kept their environment. Default 300000. */
  timeout_ms?: number;
  /** Keep stdin open for `/stdin`. Default false: stdin is empty. It is a socket, which no program can open as `/dev/stdin`. */
  stdin?: boolean;
}

export type ExecResult =
  | { kind: 'exited'; code: number }
  /** `by`: the signal came from the stop of the session. */
  | { kind: 'signaled'; signal: string; by?: 'stop' }
  /** The deadline of the exec passed and the agent ended it. */
  | { kind: 'timed_out'; timeout_ms: number }
  /** Said by the controller, and the first also by an agent that was started anew, of what its predecessor ran. */
  | { kind: 'machine_lost'; reason: string }
  | { kind: 'unknown'; reason: string };

export interface ExecInfo {
  id: string;
  state: 'running' | 'ended';
  pid: number;
  started_at: number;
  ended_at?: number;
  result?: ExecResult;
  /** The kernel killed a process of this exec for memory. */
  oom_killed?: boolean;
  /** Bytes written by the process until now. */
  stdout_bytes: number;
  stderr_bytes: number;
}

/** One line of an exec's NDJSON stream. `offset` is that of the first byte of `data` in its stream. */
export type ExecEvent =
  | { type: 'start'; id: string; pid: number; started_at: number; incarnation?: number }
  | { type: 'stdout' | 'stderr'; offset: number; data: string; encoding?: 'base64' }
  /** Bytes `[from, to)` are no longer in the spool. */
  | { type: 'gap'; stream: 'stdout' | 'stderr'; from: number; to: number }
  /** At least every 15 s while nothing else is sent. */
  | { type: 'ping' }
  | {
      type: 'end';
      result: ExecResult;
      stdout_bytes: number;
      stderr_bytes: number;
      duration_ms: number;
      oom_killed?: boolean;
    };

export interface FileStat {
  /** Relative to `/workspace`, with `/` between; `''` is the workspace itself. */
  path: string;
  type: 'file' | 'directory' | 'symlink' | 'other';
  size: number;
  /** Permission bits, e.g. 420 for 0644. */
  mode: number;
  mtime_ms: number;
  /** Of a symlink. */
  target?: string;
}

/** One line of a long answer; `result` or `error` is the last. */
export type LongAnswer<T> =
  /** There was progress since the last line: what was read or sent so far. At most one a second. */
  | { type: 'progress'; bytes: number; files?: number }
  | { type: 'result'; result: T }
  | { type: 'error'; error: AgentError };

export interface PackRequest {
  /** Version the caller knows as head; written into the manifest as its base. */
  base: number;
  /** Manifest hash of that version: nothing is packed when the tree still has it. */
  base_sha256?: string;
  /** No object of a pack has more bytes. Default and most: 32 MiB. */
  object_bytes?: number;
  /** The user's processes are held still for at most so long, so that what is packed existed at one moment. Default 5000; 0: never. */
  pause_ms?: number;
}

export interface PackObject {
  sha256: string;
  bytes: number;
}

export type PackResult =
  | { changed: false; sha256: string }
  | {
      changed: true;
      /** Names the spool of this pack run; passed to `/workspace/upload`. */
      pack_id: string;
      manifest: PackObject;
      /** Every object of every pack. */
      packs: PackObject[];
      files: number;
      /** Of all files together. */
      bytes: number;
      /** All of it existed at one moment. */
      atomic: boolean;
      /** So long the user's processes were held still; 0 where the tree stood still by itself. */
      paused_ms: number;
      /** Paths that can't be saved and why, the first few: a name that is not UTF-8, a path of more than 4000 bytes, a file of more than 4 GiB. */
      left_out?: string[];
    };

export interface UploadRequest {
  pack_id: string;
  /** Signed upload URLs by hash, for the manifest and every object of a pack; not needed for what was uploaded before. */
  urls: Record<string, string>;
}

export interface UploadResult {
  /** Every object of the run that the storage has taken, now or before. */
  uploaded: string[];
}

export interface UnsavedRequest {
  base: number;
  base_sha256?: string;
}

/** How the workspace differs from a version. */
export interface Unsaved {
  base: number;
  /** False: the agent doesn't have that version, and everything counts. */
  known: boolean;
  /** Changed, new or removed. */
  files: number;
  /** Of those that are there. */
  bytes: number;
  /** The first 20. */
  paths: string[];
}

export interface RestoreRequest {
  /** 0: nothing was ever saved. */
  version: number;
  manifest?: PackObject & { url: string };
  packs?: (PackObject & { url: string })[];
}

export interface RestoreResult {
  version: number;
  files: number;
  bytes: number;
}

export interface SealRequest {
  /** Of the sandbox; a lower one than the agent has seen is refused with `fenced`. */
  fence: number;
  /** Between SIGTERM and SIGKILL. */
  grace_ms: number;
}

export interface SealResult {
  /** Processes of the user that ended in time, and those that had to be killed. */
  terminated: number;
  killed: number;
}

/**
 * What a version of a session's files is: gzip of this, as JSON, under the key `s/<session>/m/<sha256 of the gzip>`.
 * A pack is a zstd-compressed tar whose entries are named by the SHA-256 of their content; it may hold contents that no file has. It is kept in one or more objects, in the
 * order of the list, each under `s/<session>/p/<sha256>`: so no file is too large for what a plan allows an object.
 * An entry names the pack that holds its content, so a later version can refer to packs of earlier ones.
 */
export interface Manifest {
  format: 1;
  session: string;
  base: number;
  packs: PackObject[][];
  /** Sorted by path (bytewise). */
  entries: ManifestEntry[];
}

export type ManifestEntry =
  | { path: string; type: 'directory'; mode: number; mtime_ms: number }
  | { path: string; type: 'symlink'; target: string }
  /** `pack`: index in `packs`; absent when empty. */
  | {
      path: string;
      type: 'file';
      mode: number;
      mtime_ms: number;
      size: number;
      sha256: string;
      pack?: number;
    };

/** Names never saved, wherever they stand in the tree. */
export const NEVER_SAVED = ['node_modules', '.expo', '.git/index.lock', '.mobvibe'] as const;

export interface AgentError {
  code: string;
  detail: string;
  field?: string;
  /** Hash of the object that it is about. */
  object?: string;
  /** What the storage answered. */
  status?: number;
}
