/**
 * Every error a caller of the controller can see, in one table. The `code` is stable; the message may change.
 *
 * `kind` tells the caller whose move it is:
 * - `mistake`: the request can't succeed as it stands; repeating it won't help.
 * - `fault`: the platform failed and the request provably had no effect; it may be repeated.
 * - `unknown`: the request may or may not have had its effect; look before repeating.
 */
export type ErrorKind = 'mistake' | 'fault' | 'unknown';

export const ERRORS = {
  // The request itself
  invalid_json: [400, 'mistake', 'The body is not JSON'],
  invalid_request: [400, 'mistake', 'A field of the request is not acceptable'],
  invalid_id: [400, 'mistake', 'An id has characters or a length that are not allowed'],
  invalid_command: [400, 'mistake', 'The command is empty or holds a NUL character'],
  invalid_path: [400, 'mistake', 'The path is not acceptable'],
  path_outside: [403, 'mistake', 'The path leads out of the workspace'],
  body_too_large: [413, 'mistake', 'The body is larger than this route takes'],
  unauthorized: [401, 'mistake', 'No valid API key was sent'],
  route_not_found: [404, 'mistake', 'There is no such route'],
  // Sessions
  session_not_found: [404, 'mistake', 'There is no session with this id'],
  session_conflict: [409, 'mistake', 'A session with this id exists with other settings'],
  session_not_open: [409, 'mistake', 'The session has no sandbox now; open it first'],
  session_stopping: [409, 'fault', 'The session is being stopped; it can be opened again afterwards'],
  session_start_failed: [503, 'fault', 'The sandbox of the session could not be started'],
  session_start_timeout: [
    504,
    'unknown',
    'The sandbox was not ready in the time given; it may still become ready',
  ],
  too_many_starts: [429, 'fault', 'The session was started too often within an hour'],
  no_capacity: [503, 'fault', 'No sandbox can be started in time now; come back later'],
  image_failing: [503, 'fault', 'The last starts of this image failed; it is tried with one start at a time'],
  version_not_found: [404, 'mistake', 'The session has no such version'],
  version_damaged: [409, 'mistake', 'The version can not be restored; open another one'],
  // Execs
  exec_not_found: [404, 'mistake', 'There is no exec with this id in the sandbox'],
  exec_conflict: [409, 'mistake', 'An exec with this id exists with another command'],
  exec_lost: [409, 'unknown', 'The exec ran in an earlier sandbox of the session, and its end was not seen'],
  exec_ended: [409, 'mistake', 'The exec has ended'],
  too_many_processes: [503, 'fault', 'The sandbox has reached its limit of processes'],
  out_of_memory: [503, 'fault', 'The memory of the sandbox is used up'],
  cwd_not_found: [400, 'mistake', 'The working directory does not exist or is not a directory'],
  command_not_found: [400, 'mistake', 'The command could not be started'],
  stdin_conflict: [409, 'mistake', 'Input was sent from an offset that does not follow what was received'],
  // Files
  file_not_found: [404, 'mistake', 'There is no file at this path'],
  file_exists: [409, 'mistake', 'Something else exists at this path'],
  not_a_file: [409, 'mistake', 'What is at this path is not a regular file'],
  not_a_directory: [409, 'mistake', 'What is at this path is not a directory'],
  directory_not_empty: [409, 'mistake', 'The directory is not empty'],
  disk_full: [507, 'fault', 'The disk of the sandbox is full'],
  save_failed: [503, 'fault', 'The files could not be saved; the last saved version stands'],
  save_conflict: [409, 'fault', 'Another save was committed first; this one changed nothing'],
  restore_failed: [503, 'fault', 'The saved files could not be restored'],
  // Jobs
  job_not_found: [404, 'mistake', 'There is no job with this id'],
  job_conflict: [409, 'mistake', 'A job with this id exists with other contents'],
  // Platform
  cell_elsewhere: [
    503,
    'fault',
    'The controller that works for the cell of the session could not be reached',
  ],
  cell_lost: [502, 'unknown', 'The connection to the controller of the session broke during the request'],
  cell_taken: [503, 'fault', 'A cell of the settings belongs to another stack'],
  fenced: [409, 'fault', 'A newer sandbox or worker has taken over; this write was refused'],
  agent_unreachable: [503, 'fault', 'The agent of the sandbox is not connected'],
  agent_unresponsive: [503, 'fault', 'The agent of the sandbox does not answer'],
  agent_lost: [502, 'unknown', 'The connection to the sandbox broke during the request'],
  machine_lost: [409, 'fault', 'The machine that the request was meant for is gone'],
  fly_unavailable: [503, 'fault', 'The Machines API did not answer as it should'],
  fly_capacity: [503, 'fault', 'There is no capacity for the machine in the region'],
  fly_quota: [503, 'fault', 'The Fly organisation has reached its machine limit'],
  fly_rate_limited: [503, 'fault', 'The Machines API refused the request for its rate'],
  database_unavailable: [503, 'fault', 'The database did not answer as it should'],
  database_lost: [
    502,
    'unknown',
    'The database broke off during a change, which may or may not have been made',
  ],
  storage_unavailable: [503, 'fault', 'The file storage did not answer as it should'],
  storage_full: [503, 'fault', 'The file storage takes no more: a quota or a limit of size is reached'],
  storage_refused: [
    503,
    'fault',
    'The file storage refuses the request: a key, a policy or the bucket is wrong',
  ],
  shutting_down: [503, 'fault', 'This controller is shutting down'],
  internal: [500, 'unknown', 'The controller failed in a way it does not know'],
} as const satisfies Record<string, readonly [status: number, kind: ErrorKind, title: string]>;

export type ErrorCode = keyof typeof ERRORS;

/** An error of the table. `detail` is for people and names the field or option and its value; it never holds a secret. */
export class CodedError extends Error {
  override readonly name = 'CodedError';
  readonly code: ErrorCode;
  readonly detail: string;
  /** The request field at fault, where there is one. */
  readonly field: string | undefined;
  /** When to come back, milliseconds from now, where that is known. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: ErrorCode,
    detail: string,
    options: { field?: string; cause?: unknown; retryAfterMs?: number | undefined } = {},
  ) {
    super(`${code}: ${detail}`, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.detail = detail;
    this.field = options.field;
    this.retryAfterMs = options.retryAfterMs;
  }

  get status(): number {
    return ERRORS[this.code][0];
  }

  get kind(): ErrorKind {
    return ERRORS[this.code][1];
  }

  /** RFC 9457 problem details. */
  toProblem(): Problem {
    const [status, kind, title] = ERRORS[this.code];
    return {
      type: `urn:mobvibe:error:${this.code}`,
      title,
      status,
      detail: this.detail,
      code: this.code,
      kind,
      ...(this.field === undefined ? {} : { field: this.field }),
      ...(this.retryAfterMs === undefined ? {} : { retry_after_ms: this.retryAfterMs }),
    };
  }
}

/** The body of every error answer, `application/problem+json`. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: ErrorCode;
  kind: ErrorKind;
  field?: string;
  /** When to come back, milliseconds from now; the header `Retry-After` says the same in seconds. */
  retry_after_ms?: number;
}
