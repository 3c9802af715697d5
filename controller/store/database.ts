import { createClient, type PostgrestError, type SupabaseClient } from '@supabase/supabase-js';
import { CodedError, ERRORS, type ErrorCode } from '../errors.ts';

export type Database = SupabaseClient;

/** `timeoutMs` is the deadline of one call. */
export function connectDatabase(url: string, serviceRoleKey: string, timeoutMs: number): Database {
  return createClient(url, serviceRoleKey, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    // Its own retries are 1, 2 and 4 s apart, behind the back of callers that have a deadline and a better plan.
    db: { retry: false },
    // Storage calls have no deadline of their own.
    global: { fetch: fetchWithin(timeoutMs) },
  });
}

function fetchWithin(timeoutMs: number): typeof fetch {
  return (input, init = {}) => {
    const deadline = AbortSignal.timeout(timeoutMs);
    return fetch(input, {
      ...init,
      signal: init.signal ? AbortSignal.any([init.signal, deadline]) : deadline,
    });
  };
}

interface Answer {
  data: unknown;
  error: PostgrestError | null;
  status: number;
}

/** The rows that a call returned. A function that returns no row gives an empty list. */
export async function rows<T>(what: string, call: PromiseLike<Answer>): Promise<T[]> {
  const data = await value<T[] | T | null>(what, call);
  if (data === null || data === undefined) return [];
  return Array.isArray(data) ? data : [data];
}

/** The one row that a call returned; a contract broken by the database is an `internal` error. */
export async function row<T>(what: string, call: PromiseLike<Answer>): Promise<T> {
  const [first] = await rows<T>(what, call);
  if (first === undefined) throw new CodedError('internal', `${what} returned no row`);
  return first;
}

export async function value<T>(what: string, call: PromiseLike<Answer>): Promise<T> {
  let answer: Answer;
  try {
    answer = await call;
  } catch (cause) {
    throw new CodedError('database_unavailable', `${what}: no answer`, { cause });
  }
  if (answer.error !== null) throw databaseError(what, answer.error, answer.status);
  return answer.data as T;
}

/** Our functions put the code of `errors.ts` into `details`; whatever has none of these is the database's own trouble. */
export function databaseError(what: string, error: PostgrestError, status: number): CodedError {
  if (error.details !== null && Object.hasOwn(ERRORS, error.details)) {
    return new CodedError(error.details as ErrorCode, error.message);
  }
  const detail = `${what}: ${error.message}${error.code ? ` (${error.code})` : ''}`;
  // 0: no answer at all; 401 and 403: a key that is wrong or may not do this, which no caller of ours can help.
  const away = status === 0 || status === 408 || status === 429 || status >= 500;
  return new CodedError(away ? 'database_unavailable' : 'internal', detail, { cause: error });
}
