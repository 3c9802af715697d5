import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { createClient, type PostgrestError } from '@supabase/supabase-js';
import { compare, type Difference } from './compare.ts';
import type { WaitTime } from './wait.ts';

export interface ApiKeyInputs {
  /** Of the Supabase project whose database holds the key's hash. A change makes another key. */
  supabaseUrl: string;
  /** Secret. */
  serviceRoleKey: string;
  /** Id of the key's row, if it is still free; else with 8 hex digits behind it. A change makes another key. */
  keyId: string;
  /** For people. A change makes another key. */
  name: string;
  /** Any text; another one makes another key. */
  rotation?: string;
}

export interface ApiKeyOutputs extends ApiKeyInputs {
  /** Secret: `mvk_` and base64url. */
  key: string;
}

export interface CallTime extends WaitTime {
  /** In [0, 1). */
  random: () => number;
}

/** Of one try. */
const TIMEOUT_MS = 15_000;
/** Of all tries: after a migration the API takes a while to know of new functions, and is away meanwhile (PostgREST docs, "Schema Cache"). */
const DEADLINE_MS = 30_000;
const PAUSE_MS = 250;
const MOST_PAUSE_MS = 3_000;
const REAL_TIME: CallTime = {
  clock: () => performance.now(),
  sleep: (ms) => delay(ms),
  random: Math.random,
};
/** A function, or a table, that is not in the API's cache of the schema. */
const UNKNOWN: ReadonlySet<string> = new Set(['PGRST202', 'PGRST205']);
/** What `api_key_add` raises for an id that exists with another secret (supabase/migrations). */
const ID_TAKEN = 'PT400';

class DatabaseError extends Error {
  override readonly name = 'DatabaseError';
  readonly code: string;

  constructor(what: string, { code, message }: PostgrestError, status: number) {
    const why = UNKNOWN.has(code)
      ? `; the migrations are not applied: not within ${DEADLINE_MS / 1000} s`
      : '';
    super(`${what}: ${message} (HTTP ${status})${why}`);
    this.code = code;
  }
}

export function diff(olds: ApiKeyOutputs, news: ApiKeyInputs): Difference {
  return compare(olds, news, {
    replace: ['supabaseUrl', 'keyId', 'name', 'rotation'],
    update: ['serviceRoleKey'],
  });
}

/** Only its hash leaves for the database. An id is used once: a revoked key keeps its row. */
export async function create(
  inputs: ApiKeyInputs,
  random: (bytes: number) => Buffer = randomBytes,
  time: CallTime = REAL_TIME,
): Promise<{ id: string; outs: ApiKeyOutputs }> {
  const { keyId, name } = inputs;
  const key = `mvk_${random(24).toString('base64url')}`;
  const add = async (id: string): Promise<string> => {
    await call(inputs, 'api_key_add', { p_id: id, p_name: name, p_sha256: sha256(key) }, time);
    return id;
  };
  const id = await add(keyId).catch((error: unknown) => {
    if (!(error instanceof DatabaseError && error.code === ID_TAKEN)) throw error;
    return add(`${keyId}-${random(4).toString('hex')}`);
  });
  return { id, outs: { ...inputs, key } };
}

export async function read(
  id: string,
  props: ApiKeyOutputs,
): Promise<{ id?: string; props?: ApiKeyOutputs }> {
  const live = await call(props, 'api_key_check', { p_sha256: sha256(props.key) });
  return Array.isArray(live) && live.length > 0 ? { id, props } : {};
}

/** The service role's key is the project's, not this key's. */
export function update(olds: ApiKeyOutputs, { serviceRoleKey }: ApiKeyInputs): { outs: ApiKeyOutputs } {
  return { outs: { ...olds, serviceRoleKey } };
}

export async function remove(id: string, props: ApiKeyOutputs): Promise<void> {
  await call(props, 'api_key_revoke', { p_id: id });
}

/** Each of the functions leaves the same state when it is called twice, so one that failed in a way that may pass is called again. */
async function call(
  { supabaseUrl, serviceRoleKey }: ApiKeyInputs,
  name: 'api_key_add' | 'api_key_check' | 'api_key_revoke',
  args: Record<string, string>,
  { clock, sleep, random }: CallTime = REAL_TIME,
): Promise<unknown> {
  const supabase = createClient(supabaseUrl, serviceRoleKey, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
  });
  const ends = clock() + DEADLINE_MS;
  for (let window = PAUSE_MS; ; window = Math.min(MOST_PAUSE_MS, window * 2)) {
    const { data, error, status } = await supabase
      .rpc(name, args)
      .abortSignal(AbortSignal.timeout(TIMEOUT_MS));
    if (error === null) return data;
    const mayPass = status === 0 || status === 429 || status >= 500 || UNKNOWN.has(error.code);
    const wait = window * (0.5 + 0.5 * random());
    if (!mayPass || clock() + wait > ends) throw new DatabaseError(name, error, status);
    await sleep(wait);
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
