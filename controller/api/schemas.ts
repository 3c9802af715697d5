import Type, { type Static, type TSchema, type TUnsafe } from 'typebox';
import { ERRORS, type ErrorCode } from '../errors.ts';
import { EXEC_ID, SESSION_ID } from '../sessions/names.ts';

/**
 * Every shape of the HTTP API, once: requests are checked against these, the OpenAPI document is made from them and the SDK
 * takes its types from them.
 */

const closed = { additionalProperties: false } as const;
const oneOf = <const T extends string>(values: readonly T[], options: { description?: string } = {}) =>
  Type.Union(
    values.map((value) => Type.Literal(value)),
    options,
  ) as unknown as TUnsafe<T>;
const orNull = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()]);

// Ids and small values

export const SessionId = Type.String({
  pattern: SESSION_ID.source,
  description: 'Lower-case letters, digits and inner hyphens, at most 48',
});
export const ExecId = Type.String({ pattern: EXEC_ID.source });
export const JobId = Type.String({ pattern: '^[A-Za-z0-9_-]{1,48}$' });

const Time = Type.String({ description: 'ISO 8601' });
const Bytes = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
/** As `?recursive=1`. */
const Flag = oneOf(['0', '1']);
const WaitMs = Type.Integer({
  minimum: 0,
  maximum: 600_000,
  description: 'How long to wait for the outcome, milliseconds; 0 returns at once',
});
const Path = Type.String({ maxLength: 4096, description: 'Relative to /workspace, or absolute inside it' });
const Command = Type.Union([Type.Array(Type.String()), Type.String()], {
  description: 'A list is run as it stands, a string by a shell (`bash -c`)',
});
const Env = Type.Record(Type.String(), Type.String());
const TimeoutMs = Type.Integer({ minimum: 1, maximum: 86_400_000 });

// Parameters

export const SessionParams = Type.Object({ id: SessionId });
export const ExecParams = Type.Object({ id: SessionId, exec_id: ExecId });
export const JobParams = Type.Object({ id: JobId });
export const WaitQuery = Type.Object({ wait_ms: Type.Optional(WaitMs) }, closed);
const paging = {
  cursor: Type.Optional(Type.String({ description: '`next_cursor` of the page before' })),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200, default: 50 })),
};
export const PageQuery = Type.Object(paging, closed);
export const NoQuery = Type.Object({}, closed);

const pageOf = <T extends TSchema>(item: T) =>
  Type.Object({ items: Type.Array(item), next_cursor: orNull(Type.String()) });

// Errors

export const Problem = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    code: oneOf(Object.keys(ERRORS) as ErrorCode[]),
    kind: oneOf(['mistake', 'fault', 'unknown'], {
      description:
        'mistake: cannot succeed as it stands; fault: had no effect, may be repeated; unknown: look before repeating',
    }),
    field: Type.Optional(Type.String()),
    retry_after_ms: Type.Optional(
      Type.Number({ description: 'When repeating it is worth while; as Retry-After, in whole seconds' }),
    ),
  },
  { description: 'RFC 9457 problem details' },
);

// Sessions

export const SessionStatus = oneOf(['stopped', 'starting', 'ready', 'unresponsive', 'stopping', 'failed']);
const CpuKind = oneOf(['shared', 'performance']);
const Region = Type.String({
  pattern: '^[a-z]{2,5}(,[a-z]{2,5})*$',
  description: 'A Fly region, e.g. sjc, or several in order of preference: sjc,lax,any',
});
const Cpus = Type.Integer({ minimum: 1, maximum: 16 });
const MemoryMb = Type.Integer({ minimum: 256, maximum: 131_072, multipleOf: 256 });

export const SessionCreate = Type.Object(
  {
    id: Type.Optional(SessionId),
    region: Type.Optional(Region),
    cpu_kind: Type.Optional(CpuKind),
    cpus: Type.Optional(Cpus),
    memory_mb: Type.Optional(MemoryMb),
  },
  closed,
);
export type SessionCreate = Static<typeof SessionCreate>;

export const SessionOpen = Type.Object(
  {
    version: Type.Optional(
      Type.Integer({ minimum: 1, description: 'Of the saved files; default the newest' }),
    ),
  },
  closed,
);
export const SessionStop = Type.Object(
  {
    grace_ms: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 600_000,
        description: 'Between SIGTERM and SIGKILL to what still runs, milliseconds',
      }),
    ),
    discard_unsaved: Type.Optional(
      Type.Boolean({ description: 'What can’t be saved is given up; see /unsaved' }),
    ),
  },
  closed,
);

export const SaveState = Type.Object(
  {
    state: oneOf(['ok', 'failing']),
    since: orNull(Time),
    attempts: Type.Integer({ description: 'Tries that failed, one after the other' }),
    code: orNull(Type.String()),
    detail: orNull(Type.String()),
  },
  { description: 'Whether the files can be saved, as the last try had it' },
);

export const Session = Type.Object({
  id: SessionId,
  status: SessionStatus,
  settings: Type.Object({
    region: Type.String(),
    cpu_kind: CpuKind,
    cpus: Type.Integer(),
    memory_mb: Type.Integer(),
  }),
  incarnation: Type.Integer({ description: 'Number of sandboxes the session has had' }),
  sandbox_id: orNull(Type.String({ description: 'Fly machine id' })),
  sandbox_region: orNull(Type.String()),
  head: Type.Integer({ description: 'Newest saved version of the files; 0: none' }),
  error: orNull(Type.Object({ code: Type.String(), detail: Type.String() })),
  save: SaveState,
  last_active_at: Time,
  created_at: Time,
  updated_at: Time,
});
export type Session = Static<typeof Session>;
export const SessionPage = pageOf(Session);
export const SessionListQuery = Type.Object({ ...paging, status: Type.Optional(SessionStatus) }, closed);

export const SaveResult = Type.Object({
  version: Type.Integer(),
  changed: Type.Boolean({ description: 'False: the saved version already held all of it' }),
  files: Type.Integer(),
  bytes: Bytes,
  atomic: Type.Optional(
    Type.Boolean({ description: 'False: files changed meanwhile; not all of it existed at one moment' }),
  ),
  left_out: Type.Optional(
    Type.Array(Type.String(), {
      description: 'Paths that can’t be saved and why, the first few; of a new version',
    }),
  ),
});
export type SaveResult = Static<typeof SaveResult>;

export const Unsaved = Type.Object({
  base: Type.Integer({ description: 'The version that it is compared with; 0: none' }),
  known: Type.Boolean({ description: 'False: the sandbox does not have that version, so everything counts' }),
  files: Type.Integer({ description: 'Changed, new or removed' }),
  bytes: Bytes,
  paths: Type.Array(Type.String(), { description: 'The first 20' }),
});
export type Unsaved = Static<typeof Unsaved>;

export const SessionEvent = Type.Object({
  id: Type.Integer(),
  session_id: SessionId,
  sandbox: orNull(Type.String()),
  kind: Type.String(),
  actor: Type.String(),
  reason: orNull(Type.String()),
  data: Type.Record(Type.String(), Type.Unknown()),
  at: Time,
});
export type SessionEvent = Static<typeof SessionEvent>;
export const SessionEventPage = pageOf(SessionEvent);

// Execs

export const ExecSpec = Type.Object(
  {
    command: Command,
    cwd: Type.Optional(Type.String({ maxLength: 4096 })),
    env: Type.Optional(Env),
    timeout_ms: Type.Optional(TimeoutMs),
    stdin: Type.Optional(Type.Boolean({ description: 'Keep stdin open for /stdin. Default: empty stdin' })),
  },
  closed,
);
export type ExecSpec = Static<typeof ExecSpec>;

export const ExecResult = Type.Union([
  Type.Object({ kind: Type.Literal('exited'), code: Type.Integer() }),
  Type.Object({
    kind: Type.Literal('signaled'),
    signal: Type.String(),
    by: Type.Optional(Type.Literal('stop', { description: 'The session was being stopped' })),
  }),
  Type.Object({ kind: Type.Literal('timed_out'), timeout_ms: Type.Integer() }),
  Type.Object({ kind: Type.Literal('machine_lost'), reason: Type.String() }),
  Type.Object({ kind: Type.Literal('unknown'), reason: Type.String() }),
]);
export type ExecResult = Static<typeof ExecResult>;

export const ExecInfo = Type.Object({
  id: ExecId,
  incarnation: Type.Integer({ description: 'The sandbox it runs in; ask for output with it' }),
  state: oneOf(['running', 'ended']),
  pid: Type.Integer({ description: '0 where its sandbox is gone' }),
  started_at: Type.Number(),
  ended_at: Type.Optional(Type.Number()),
  result: Type.Optional(ExecResult),
  oom_killed: Type.Optional(Type.Boolean()),
  stdout_bytes: Bytes,
  stderr_bytes: Bytes,
});
export type ExecInfo = Static<typeof ExecInfo>;
export const ExecPage = pageOf(ExecInfo);

const outputStream = oneOf(['stdout', 'stderr']);
const Output = Type.Object({
  type: outputStream,
  offset: Bytes,
  data: Type.String(),
  encoding: Type.Optional(Type.Literal('base64')),
});
const Ping = Type.Object({ type: Type.Literal('ping') });
export const ExecEvent = Type.Union(
  [
    Type.Object({
      type: Type.Literal('start'),
      id: ExecId,
      pid: Type.Integer(),
      started_at: Type.Number(),
      incarnation: Type.Integer(),
    }),
    Output,
    Type.Object({ type: Type.Literal('gap'), stream: outputStream, from: Bytes, to: Bytes }),
    Ping,
    Type.Object({
      type: Type.Literal('end'),
      result: ExecResult,
      stdout_bytes: Bytes,
      stderr_bytes: Bytes,
      duration_ms: Type.Number(),
      oom_killed: Type.Optional(Type.Boolean()),
    }),
  ],
  { description: 'One line of the stream' },
);
export type ExecEvent = Static<typeof ExecEvent>;

export const OutputQuery = Type.Object(
  {
    stdout: Type.Optional(Bytes),
    stderr: Type.Optional(Bytes),
    incarnation: Type.Optional(Type.Integer({ minimum: 1 })),
  },
  closed,
);
export const StdinQuery = Type.Object({ offset: Bytes, eof: Type.Optional(Flag) }, closed);
export const StdinResult = Type.Object({ received: Bytes });
export const SignalRequest = Type.Object(
  { signal: Type.String({ pattern: '^SIG[A-Z0-9]{1,10}$', description: 'e.g. SIGINT' }) },
  closed,
);

// Files

export const FileQuery = Type.Object({ path: Path }, closed);
export const FileReadQuery = Type.Object(
  { path: Path, offset: Type.Optional(Bytes), length: Type.Optional(Bytes) },
  closed,
);
export const FileWriteQuery = Type.Object(
  {
    path: Path,
    mode: Type.Optional(Type.String({ pattern: '^[0-7]{3,4}$', description: 'Octal, e.g. 755' })),
  },
  closed,
);
export const FileTreeQuery = Type.Object({ path: Path, recursive: Type.Optional(Flag) }, closed);
export const FileStat = Type.Object({
  path: Type.String(),
  type: oneOf(['file', 'directory', 'symlink', 'other']),
  size: Bytes,
  mode: Type.Integer(),
  mtime_ms: Type.Number(),
  target: Type.Optional(Type.String()),
});
export type FileStat = Static<typeof FileStat>;
export const MkdirRequest = Type.Object({ path: Path }, closed);
export const MoveRequest = Type.Object({ from: Path, to: Path }, closed);
export const SymlinkRequest = Type.Object({ path: Path, target: Type.String({ maxLength: 4096 }) }, closed);

// Jobs

export const JobStatus = oneOf(['queued', 'running', 'succeeded', 'failed', 'canceled']);
export const JobCreate = Type.Object(
  {
    id: Type.Optional(JobId),
    session_id: SessionId,
    command: Command,
    cwd: Type.Optional(Type.String({ maxLength: 4096 })),
    env: Type.Optional(Env),
    timeout_ms: Type.Optional(TimeoutMs),
    max_attempts: Type.Optional(Type.Integer({ minimum: 1, maximum: 20, default: 3 })),
  },
  closed,
);
export type JobCreate = Static<typeof JobCreate>;

export const Job = Type.Object({
  id: JobId,
  session_id: SessionId,
  command: Command,
  cwd: Type.Optional(Type.String()),
  env: Type.Optional(Env),
  timeout_ms: Type.Optional(Type.Integer()),
  status: JobStatus,
  attempts: Type.Integer(),
  max_attempts: Type.Integer(),
  started: Type.Boolean(),
  cancel_requested: Type.Boolean(),
  result: orNull(
    Type.Object({
      result: ExecResult,
      stdout_bytes: Bytes,
      stderr_bytes: Bytes,
      duration_ms: Type.Number(),
      oom_killed: Type.Optional(Type.Boolean()),
    }),
  ),
  run_at: Time,
  created_at: Time,
  updated_at: Time,
  ended_at: orNull(Time),
});
export type Job = Static<typeof Job>;
export const JobPage = pageOf(Job);
export const JobListQuery = Type.Object(
  { ...paging, session_id: Type.Optional(SessionId), status: Type.Optional(JobStatus) },
  closed,
);
export const JobLogsQuery = Type.Object({ follow: Type.Optional(Flag) }, closed);
export const JobLogEvent = Type.Union([Output, Ping, Type.Object({ type: Type.Literal('end'), job: Job })], {
  description: 'One line of the stream',
});
export type JobLogEvent = Static<typeof JobLogEvent>;

// Platform

export const Health = Type.Object({ status: Type.Literal('ok') });
export const Readiness = Type.Object({
  ready: Type.Boolean(),
  degraded: Type.Array(oneOf(['fly', 'storage', 'egress']), {
    description: 'What does not answer although the controller works without it, as far as it can',
  }),
  checks: Type.Record(Type.String(), oneOf(['ok', 'failed'])),
});
