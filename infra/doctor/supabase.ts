import { createClient } from '@supabase/supabase-js';
import { ok, type Verdict, wrong } from './finding.ts';

/** No key has this hash. */
const NOBODYS = '0'.repeat(64);

/** Whether the project answers and takes the key as its service role's. It asks for an API key that nobody has. */
export async function supabaseProject(url: string, key: string, signal: AbortSignal): Promise<Verdict> {
  const mend = 'pulumi config set --secret supabaseServiceRoleKey';
  const role = roleOfKey(key);
  if (role !== undefined && role !== 'service_role') {
    return wrong(
      `the key is that of ${role}; the service role's is needed (Supabase: Project Settings, API keys)`,
      mend,
    );
  }
  const client = createClient(url, key, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
  });
  const { error, status } = await client.rpc('api_key_check', { p_sha256: NOBODYS }).abortSignal(signal);
  signal.throwIfAborted();
  return judgeAnswer(url, status, error?.code, error?.message);
}

/** As the key says itself; undefined where it says nothing. */
export function roleOfKey(key: string): string | undefined {
  if (key.startsWith('sb_secret_')) return 'service_role';
  if (key.startsWith('sb_publishable_')) return 'anon';
  try {
    return JSON.parse(Buffer.from(key.split('.')[1] ?? '', 'base64url').toString()).role;
  } catch {
    return undefined;
  }
}

/** `code`: of PostgREST or Postgres. */
export function judgeAnswer(url: string, status: number, code?: string, message?: string): Verdict {
  const mend = 'pulumi config set --secret supabaseServiceRoleKey';
  if (code === undefined && status >= 200 && status < 300) return ok(`${url} takes the service role's key`);
  if (code === 'PGRST202') return ok(`${url} takes the key; our functions are not there yet`);
  if (code === '42501') return wrong(`${url} takes the key, but not as the service role's`, mend);
  if (status === 401 || status === 403) return wrong(`${url} does not take the key (HTTP ${status})`, mend);
  const reach = `curl -sS ${url}/rest/v1/`;
  if (status === 0) return wrong(`${url} can't be reached: ${message}`, reach);
  return wrong(`${url} answers with HTTP ${status}: ${message}`, reach);
}
