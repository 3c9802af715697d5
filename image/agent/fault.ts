import type { AgentError } from '../../controller/agents/wire.ts';

/** The codes that the agent answers with, a part of the controller's error table, and their HTTP status. */
export const STATUS = {
  invalid_json: 400,
  invalid_request: 400,
  invalid_id: 400,
  invalid_command: 400,
  invalid_path: 400,
  path_outside: 403,
  body_too_large: 413,
  route_not_found: 404,
  exec_not_found: 404,
  exec_conflict: 409,
  exec_ended: 409,
  cwd_not_found: 400,
  command_not_found: 400,
  stdin_conflict: 409,
  file_not_found: 404,
  file_exists: 409,
  not_a_file: 409,
  not_a_directory: 409,
  directory_not_empty: 409,
  disk_full: 507,
  session_stopping: 409,
  fenced: 409,
  version_damaged: 409,
  save_failed: 503,
  restore_failed: 503,
  storage_full: 503,
  storage_refused: 503,
  storage_unavailable: 503,
  too_many_processes: 503,
  out_of_memory: 503,
  shutting_down: 503,
  internal: 500,
} as const;

export type FaultCode = keyof typeof STATUS;

export interface FaultOptions {
  field?: string;
  object?: string;
  storageStatus?: number;
  cause?: unknown;
}

/** What a caller is told. `detail` names the field or option and its value; it never holds a secret. */
export class Fault extends Error {
  override readonly name = 'Fault';
  readonly code: FaultCode;
  readonly detail: string;
  readonly field: string | undefined;
  /** The object of the storage that it is about, by its hash. */
  readonly object: string | undefined;
  /** What the storage answered. */
  readonly storageStatus: number | undefined;

  constructor(code: FaultCode, detail: string, options: FaultOptions = {}) {
    super(`${code}: ${detail}`, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.detail = detail;
    this.field = options.field;
    this.object = options.object;
    this.storageStatus = options.storageStatus;
  }

  get status(): number {
    return STATUS[this.code];
  }

  toWire(): AgentError {
    return {
      code: this.code,
      detail: this.detail,
      ...(this.field === undefined ? {} : { field: this.field }),
      ...(this.object === undefined ? {} : { object: this.object }),
      ...(this.storageStatus === undefined ? {} : { status: this.storageStatus }),
    };
  }
}

export function toFault(error: unknown): Fault {
  if (error instanceof Fault) return error;
  const errno = (error as NodeJS.ErrnoException)?.code;
  if (errno === 'ENOSPC' || errno === 'EDQUOT') {
    return new Fault('disk_full', `The disk is full (${errno})`, { cause: error });
  }
  return new Fault('internal', error instanceof Error ? error.message : String(error), { cause: error });
}
