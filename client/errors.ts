import type { ErrorCode, ErrorKind, Problem } from '../controller/errors.ts';

/** Codes that the SDK itself gives; all others come from the controller (`controller/errors.ts`). */
export type ClientErrorCode =
  /** An option of the SDK is missing or not acceptable. */
  | 'invalid_option'
  /** No connection to the controller could be made; nothing was sent. */
  | 'controller_unreachable'
  /** The connection broke before the answer was complete. */
  | 'connection_lost'
  /** The deadline of the call passed. */
  | 'deadline_exceeded'
  /** The caller's `AbortSignal` was raised. */
  | 'aborted'
  /** What answered is not a controller, or not one this SDK understands. */
  | 'invalid_answer'
  /** A file or folder on this computer could not be read or written. */
  | 'local_file';

/** The one error of the SDK. */
export class MobVibeError extends Error {
  override readonly name = 'MobVibeError';
  /** Stable; the message may change. */
  readonly code: ErrorCode | ClientErrorCode;
  /** `mistake`: repeating won't help · `fault`: had no effect, may be repeated · `unknown`: look before repeating. */
  readonly kind: ErrorKind;
  /** HTTP status, where the controller answered. */
  readonly status: number | undefined;
  /** One sentence for people. */
  readonly detail: string;
  /** The field or option at fault, where there is one. */
  readonly field: string | undefined;
  /** When repeating the call is worth it, where the controller has said. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: ErrorCode | ClientErrorCode,
    kind: ErrorKind,
    detail: string,
    more: { status?: number; field?: string; retryAfterMs?: number; cause?: unknown } = {},
  ) {
    super(`${code}: ${detail}`, more.cause === undefined ? undefined : { cause: more.cause });
    this.code = code;
    this.kind = kind;
    this.detail = detail;
    this.status = more.status;
    this.field = more.field;
    this.retryAfterMs = more.retryAfterMs;
  }

  /** For machine-readable output. */
  toJSON(): {
    code: string;
    kind: ErrorKind;
    detail: string;
    status?: number;
    field?: string;
    retry_after_ms?: number;
  } {
    const { code, kind, detail, status, field, retryAfterMs } = this;
    return {
      code,
      kind,
      detail,
      ...(status && { status }),
      ...(field && { field }),
      ...(retryAfterMs !== undefined && { retry_after_ms: retryAfterMs }),
    };
  }
}

/** The error that an answer with an error status stands for. `retryAfter`: its header of that name. */
export function errorFromAnswer(status: number, body: string, retryAfter?: string): MobVibeError {
  const problem = parseProblem(body);
  if (problem !== undefined) {
    const { code, kind, detail, field, retry_after_ms } = problem;
    const retryAfterMs = retry_after_ms ?? secondsOf(retryAfter);
    return new MobVibeError(code, kind, detail, {
      status,
      ...(field !== undefined && { field }),
      ...(retryAfterMs !== undefined && { retryAfterMs }),
    });
  }
  // Not from a route of ours: a proxy on the way, or a server that is closing.
  if (status === 503) {
    const detail = 'The controller answered 503: it is not serving now';
    return new MobVibeError('controller_unreachable', 'fault', detail, { status });
  }
  return new MobVibeError('invalid_answer', 'unknown', `Status ${status} without problem details`, {
    status,
  });
}

/** A proxy on the way may name a date instead, which nobody here does. */
function secondsOf(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,6}$/.test(header) ? Number(header) * 1000 : undefined;
}

function parseProblem(body: string): Problem | undefined {
  try {
    const value = JSON.parse(body);
    const isProblem =
      typeof value.code === 'string' && typeof value.kind === 'string' && typeof value.detail === 'string';
    return isProblem ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Errors of a socket that mean that no request was sent. */
const NOT_SENT = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOENT',
  'CERT_HAS_EXPIRED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'ERR_TLS_CERT_ALTNAME_INVALID',
]);

/** The error that a failure of the connection to `url` stands for. */
export function errorFromSocket(cause: NodeJS.ErrnoException, url: string): MobVibeError {
  if (NOT_SENT.has(cause.code ?? '')) {
    const detail = `No connection to the controller at ${url} (${cause.code})`;
    return new MobVibeError('controller_unreachable', 'fault', detail, { cause });
  }
  const detail = `The connection to the controller at ${url} broke (${cause.code ?? cause.message})`;
  return new MobVibeError('connection_lost', 'unknown', detail, { cause });
}
