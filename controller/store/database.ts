import { createClient, type PostgrestError, type SupabaseClient } from '@supabase/supabase-js';
import { CodedError, ERRORS, type ErrorCode } from '../errors.ts';
import { CACHE_DEADLINE_MS, isUnknownToCache, type Patience, throughReload } from './schema-cache.ts';

export type Database = SupabaseClient;

/** `timeoutMs` is the deadline of one call; `time` that of its repeats while the API reads a schema that a migration has changed. */
export function connectDatabase(
  url: string,
  serviceRoleKey: string,
  timeoutMs: number,
  time: Partial<Patience> = {},
): Database {
  return createClient(url, serviceRoleKey, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    // Its own retries are 1, 2 and 4 s apart, behind the back of callers that have a deadline and a better plan.
    db: { retry: false },
    // Storage calls have no deadline of their own.
    global: { fetch: throughReload(fetchWithin(timeoutMs), time) },
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

/** The rows that a read returned; none is an empty list. Without a usable answer it rejects with `database_unavailable`. */
export async function rows<T>(what: string, call: PromiseLike<Answer>): Promise<T[]> {
  return listOf<T>(await answered(what, call, 'read'));
}

/** The one row that a change returned; a contract broken by the database is an `internal` error. Rejects as `value` does. */
export async function row<T>(what: string, call: PromiseLike<Answer>): Promise<T> {
  const [first] = listOf<T>(await answered(what, call, 'change'));
  if (first === undefined) throw new CodedError('internal', `${what} returned no row`);
  return first;
}

/** What a change returned. Rejects with `database_unavailable` when it was provably not made, `database_lost` when it may have been. */
export async function value<T>(what: string, call: PromiseLike<Answer>): Promise<T> {
  return (await answered(what, call, 'change')) as T;
}

type Kind = 'read' | 'change';

async function answered(what: string, call: PromiseLike<Answer>, kind: Kind): Promise<unknown> {
  const { data, error, status } = await call;
  if (error !== null) throw databaseError(what, error, status, kind);
  return data;
}

function listOf<T>(data: unknown): T[] {
  if (data === null || data === undefined) return [];
  return Array.isArray(data) ? data : [data as T];
}

/** Our functions put the code of `errors.ts` into `details`; whatever has none of these is the database's own trouble. */
export function databaseError(what: string, error: PostgrestError, status: number, kind: Kind): CodedError {
  if (error.details !== null && Object.hasOwn(ERRORS, error.details)) {
    // A refusal for a while says in its hint when to come back.
    const retryAfterMs = /^\d{1,9}$/.test(error.hint ?? '') ? Number(error.hint) : undefined;
    return new CodedError(error.details as ErrorCode, error.message, { retryAfterMs });
  }
  const detail = `${what}: ${error.message}${error.code ? ` (${error.code})` : ''}`;
  if (isUnknownToCache(error.code)) {
    const why = `still unknown after ${CACHE_DEADLINE_MS / 1000} s: the migrations are not applied, or not all of them`;
    return new CodedError('internal', `${detail}; ${why}`, { cause: error });
  }
  // 0: no answer at all; 401 and 403: a key that is wrong or may not do this, which no caller of ours can help.
  const away = status === 0 || status === 408 || status === 429 || status >= 500;
  if (!away) return new CodedError('internal', detail, { cause: error });
  const unsure = kind === 'change' && !provablyUndone(error, status);
  return new CodedError(unsure ? 'database_lost' : 'database_unavailable', detail, { cause: error });
}

/** Never connected (Node's and undici's words, which supabase-js puts into `details`). */
const NOT_SENT = /\((ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|UND_ERR_CONNECT_TIMEOUT)\)/;
/** Without a connection to Postgres or a schema (PostgREST docs, "Errors"), or an SQLSTATE other than of a broken connection: rolled back. */
const NOT_DONE = /^(PGRST00[0-3]|(?!08)[0-9A-Z]{5})$/;

function provablyUndone({ code, details }: PostgrestError, status: number): boolean {
  return status === 0 ? NOT_SENT.test(details ?? '') : status === 429 || NOT_DONE.test(code ?? '');
}
