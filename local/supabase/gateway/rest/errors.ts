import { DatabaseDown } from '../database.ts';
import { json, type Reply, ReplyError } from '../http.ts';

/** An error answer of PostgREST: `{ code, message, details, hint }`. */
export class RestError extends ReplyError {
  override readonly name = 'RestError';
  readonly status: number;
  readonly code: string;
  readonly details: string | null;
  readonly hint: string | null;

  constructor(
    status: number,
    code: string,
    message: string,
    rest: { details?: string | null; hint?: string | null } = {},
  ) {
    super(message);
    this.status = status;
    this.code = code;
    this.details = rest.details ?? null;
    this.hint = rest.hint ?? null;
  }

  toReply(): Reply {
    const { code, message, details, hint } = this;
    return json(this.status, { code, message, details, hint });
  }
}

/** What Postgres reports, as far as it is known to be its report and not a fault of the connection. */
interface PostgresError extends Error {
  code: string;
  detail?: string;
  hint?: string;
}

export function isPostgresError(error: unknown): error is PostgresError {
  return error instanceof Error && 'severity' in error && 'code' in error && typeof error.code === 'string';
}

/** The answer for an error of the database; `undefined` for any other error. */
export function restErrorOf(error: unknown, anonymous: boolean): RestError | undefined {
  if (error instanceof DatabaseDown) {
    const details = error.cause instanceof Error ? error.cause.message : null;
    if (error.reason === 'pool_timeout') {
      return new RestError(504, 'PGRST003', 'Timed out acquiring connection from connection pool.', {
        details,
      });
    }
    // PostgREST says PGRST001 here as well; whoever takes that for "not done" would be wrong.
    if (error.reason === 'in_doubt') {
      return new RestError(503, '08006', 'The connection broke during the commit.', { details });
    }
    const code = error.reason === 'unreachable' ? 'PGRST000' : 'PGRST001';
    return new RestError(503, code, 'Database connection error.', { details });
  }
  if (!isPostgresError(error)) return undefined;
  return new RestError(statusOfSqlState(error.code, anonymous), error.code, error.message, {
    details: error.detail ?? null,
    hint: error.hint ?? null,
  });
}

const STATUS_BY_STATE: Record<string, number> = {
  '23503': 409,
  '23505': 409,
  '25006': 405,
  '42883': 404,
  '42P01': 404,
  '42P17': 500,
  '53400': 500,
  '57P01': 503,
  P0001: 400,
};

const STATUS_BY_CLASS: Record<string, number> = {
  '08': 503,
  '09': 500,
  '0L': 403,
  '0P': 403,
  '25': 500,
  '28': 403,
  '2D': 500,
  '38': 500,
  '39': 500,
  '3B': 500,
  '40': 500,
  '53': 503,
  '54': 500,
  '55': 500,
  '57': 500,
  '58': 500,
  F0: 500,
  HV: 500,
  P0: 500,
  XX: 500,
};

/** PostgREST docs, "Errors": HTTP status of an SQLSTATE. `PTxyz` asks for status `xyz`. */
export function statusOfSqlState(state: string, anonymous: boolean): number {
  const asked = /^PT([1-5]\d\d)$/.exec(state)?.[1];
  if (asked) return Number(asked);
  if (state === '42501') return anonymous ? 401 : 403;
  return STATUS_BY_STATE[state] ?? STATUS_BY_CLASS[state.slice(0, 2)] ?? 400;
}
