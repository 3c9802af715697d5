/** Brings the database up to `supabase/migrations` with the Supabase CLI. What was applied before stays as it is. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { required, script } from './script.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MIGRATE_TIMEOUT_MS = 300_000;
/** Fetched by npx: with 135 MB it is as large as all our dependencies together, and only a deploy needs it. */
const CLI = 'supabase@3.1.0';

await script(async () => {
  const url = URL.parse(required('SUPABASE_DB_URL'));
  if (url === null || !/^postgres(ql)?:$/.test(url.protocol)) {
    throw new Error(
      'supabaseDbUrl must be postgresql://user:password@host:port/database (its value is not shown)',
    );
  }
  const password = decodeURIComponent(url.password);
  // Command lines can be read by everyone on this computer: the password goes by the environment.
  url.password = '';
  const { SUPABASE_DB_URL: _, ...env } = process.env;
  const cli = spawn('npx', ['--yes', CLI, 'db', 'push', '--yes', `--remote=${url.href}`], {
    cwd: ROOT,
    env: { ...env, PGPASSWORD: password },
    stdio: ['ignore', 2, 2],
    timeout: MIGRATE_TIMEOUT_MS,
  });
  const [code, signal] = await once(cli, 'exit');
  if (code !== 0) throw new Error(`supabase db push ended with ${signal ?? `code ${code}`}`);
  return { migrated: true };
});
