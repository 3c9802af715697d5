import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createClient, type SupabaseClient } from '@supabase/supabase-js';
import {
  type LocalSupabase,
  type LocalSupabaseOptions,
  startLocalSupabase,
} from '../../local/supabase/server.ts';

export const SAMPLE_MIGRATIONS = fileURLToPath(new URL('./migrations', import.meta.url));

export interface Project {
  supabase: LocalSupabase;
  /** With the secret key. */
  service: SupabaseClient;
  /** With the publishable key. */
  anonymous: SupabaseClient;
  stateDir: string;
  /** Ends it and removes its folder. */
  close(): Promise<void>;
}

/** A project with the sample schema, on a Postgres of its own. */
export async function startProject(options: Partial<LocalSupabaseOptions> = {}): Promise<Project> {
  const stateDir = await makeStateDir();
  const supabase = await startLocalSupabase({
    stateDir,
    migrationsDir: SAMPLE_MIGRATIONS,
    throwAway: true,
    ...options,
  });
  return {
    supabase,
    service: clientFor(supabase.url, supabase.secretKey),
    anonymous: clientFor(supabase.url, supabase.publishableKey),
    stateDir,
    close: async () => {
      await supabase.close();
      await rm(stateDir, { recursive: true, force: true });
    },
  };
}

/** Such that the account which Postgres runs as can reach what is below. */
export async function makeStateDir(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'local-supabase-'));
  await chmod(dir, 0o711);
  return dir;
}

export function clientFor(url: string, key: string): SupabaseClient {
  return createClient(url, key, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
  });
}
