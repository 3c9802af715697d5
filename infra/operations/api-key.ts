import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { createClient, type PostgrestError } from '@supabase/supabase-js';
import { compare, type Difference } from './compare.ts';

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

const TIMEOUT_MS = 15_000;
const TRIES = 3;
const PAUSE_MS = 500;
/** What `api_key_add` raises for an id that exists with another secret (supabase/migrations). */
const ID_TAKEN = 'PT400';

class DatabaseError extends Error {
  override readonly name = 'DatabaseError';
  readonly code: string;

  constructor(what: string, { code, message }: PostgrestError, status: number) {
    super(`${what}: ${message} (HTTP ${status})`);
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
): Promise<{ id: string; outs: ApiKeyOutputs }> {
  const { keyId, name } = inputs;
  const key = `mvk_${random(24).toString('base64url')}`;
  const add = async (id: string): Promise<string> => {
    await call(inputs, 'api_key_add', { p_id: id, p_name: name, p_sha256: sha256(key) });
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

/** Each of the functions leaves the same state when it is called twice, so one that got no answer is called again. */
async function call(
  { supabaseUrl, serviceRoleKey }: ApiKeyInputs,
  name: 'api_key_add' | 'api_key_check' | 'api_key_revoke',
  args: Record<string, string>,
): Promise<unknown> {
  const supabase = createClient(supabaseUrl, serviceRoleKey, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
  });
  for (let attempt = 1; ; attempt++) {
    const { data, error, status } = await supabase
      .rpc(name, args)
      .abortSignal(AbortSignal.timeout(TIMEOUT_MS));
    if (error === null) return data;
    const mayPass = status === 0 || status === 429 || status >= 500;
    if (!mayPass || attempt === TRIES) throw new DatabaseError(name, error, status);
    await delay(PAUSE_MS * attempt);
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
