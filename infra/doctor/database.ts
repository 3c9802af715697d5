import { readdir } from 'node:fs/promises';
import { Client } from 'pg';
import { ok, type Verdict, warning, wrong } from './finding.ts';

const SET = 'pulumi config set --secret supabaseDbUrl';
/** Where the Supabase CLI notes what it has applied. */
const HISTORY = 'supabase_migrations.schema_migrations';
/** Of Supabase's pooler, where a connection is another one for each transaction. */
const TRANSACTION_MODE = '6543';

export interface DatabaseSeen {
  right: Verdict;
  migrations: Verdict | undefined;
}

/** Whether the migrations can be applied as the stack would, and which are. It only reads. */
export async function database(dbUrl: string, migrations: URL, signal: AbortSignal): Promise<DatabaseSeen> {
  const form = judgeForm(dbUrl);
  if (form !== undefined) return { right: form, migrations: undefined };
  const client = new Client({ connectionString: dbUrl });
  // Said by the call that is under way.
  client.on('error', () => {});
  signal.addEventListener('abort', () => void client.end().catch(() => {}));
  try {
    await client.connect();
    const { rows } = await client.query(
      `select current_user as name,
        exists (select from pg_tables where schemaname || '.' || tablename = '${HISTORY}') as known,
        has_database_privilege(current_database(), 'create') and has_schema_privilege('public', 'create') as may`,
    );
    const { name, may, known } = rows[0];
    if (!may) return { right: wrong(`${name} may not change the schema`, SET), migrations: undefined };
    const applied = known ? await appliedVersions(client) : [];
    return {
      right: ok(`${name} may change the schema`),
      migrations: judgeMigrations(await versionsIn(migrations), applied),
    };
  } catch (error) {
    signal.throwIfAborted();
    return {
      right: judgeFailure(error as NodeJS.ErrnoException, URL.parse(dbUrl)!.host),
      migrations: undefined,
    };
  } finally {
    void client.end().catch(() => {});
  }
}

async function appliedVersions(client: Client): Promise<string[]> {
  const { rows } = await client.query(`select version from ${HISTORY} order by version`);
  return rows.map(({ version }) => version);
}

async function versionsIn(folder: URL): Promise<string[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.sql'));
  return files.map((file) => file.slice(0, 14)).sort();
}

export function judgeForm(dbUrl: string): Verdict | undefined {
  const url = URL.parse(dbUrl);
  if (url === null || !/^postgres(ql)?:$/.test(url.protocol)) {
    return wrong(
      'supabaseDbUrl is not postgresql://user:password@host:port/database (its value is not shown)',
      SET,
    );
  }
  if (url.port === TRANSACTION_MODE) {
    return wrong(
      `supabaseDbUrl is in transaction mode (port ${TRANSACTION_MODE}); migrations need session mode, 5432`,
      SET,
    );
  }
  return undefined;
}

export function judgeFailure({ code = '', message }: NodeJS.ErrnoException, host: string): Verdict {
  if (code === '28P01' || code === '28000') return wrong(`${host} does not take the user or password`, SET);
  // Postgres' own codes: it was reached.
  if (/^(?=.*\d)[0-9A-Z]{5}$/.test(code)) return wrong(`${host} refuses: ${message}`, SET);
  const direct = /^db\.[^.]+\.supabase\.co/.test(host) && /^(ENETUNREACH|EHOSTUNREACH|ENOTFOUND)$/.test(code);
  const hint = direct ? '; the direct address is IPv6 alone, session mode has IPv4' : '';
  return wrong(`${host} can't be reached: ${message || code}${hint}`, SET);
}

/** Versions in ascending order. */
export function judgeMigrations(files: string[], applied: string[]): Verdict {
  const foreign = applied.filter((version) => !files.includes(version));
  if (foreign.length > 0) {
    return wrong(
      `the database has ${foreign.at(-1)}, which is not in supabase/migrations: this project is older`,
      'git pull',
    );
  }
  const pending = files.filter((version) => !applied.includes(version));
  if (pending.length > 0) {
    return warning(
      `${pending.length} of ${files.length} are not applied yet, the first ${pending[0]}`,
      'pulumi up',
    );
  }
  return ok(`all ${files.length} are applied, the last ${files.at(-1)}`);
}
