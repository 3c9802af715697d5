import pg from 'pg';
import type { Role } from './access.ts';

/** How to reach Postgres as `authenticator`. */
export interface Connection {
  host: string;
  port: number;
  database: string;
  user: string;
  password: string;
}

export interface DatabaseOptions {
  connection: Connection;
  /** Default 10. Calls beyond that wait up to 10 s for a free connection. */
  maxConnections?: number;
  /** Each role's statement timeout; the defaults are the hosted ones (Supabase docs, "Timeouts"). */
  statementTimeoutMs?: Partial<Record<Role, number>>;
  /** Sets `mobvibe.now` in every transaction, so that SQL functions see a clock that a test drives. */
  now?: () => Date;
  log?: (line: string) => void;
}

export interface Access {
  role: Role;
  readOnly?: boolean;
}

export type Query = (text: string, values?: unknown[]) => Promise<pg.QueryResult>;

export interface Database {
  /** Runs `work` in one transaction with the rights of the role. Rolled back when it rejects. */
  transaction<T>(access: Access, work: (query: Query) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** No connection to Postgres, or it broke: `cause` says how. `in_doubt`: in the moment of the commit, which may have been made. */
export class DatabaseDown extends Error {
  override readonly name = 'DatabaseDown';
  readonly reason: 'unreachable' | 'pool_timeout' | 'broken' | 'in_doubt';

  constructor(reason: DatabaseDown['reason'], options?: ErrorOptions) {
    super(`Postgres: ${reason}`, options);
    this.reason = reason;
  }
}

const STATEMENT_TIMEOUT_MS: Record<Role, number> = { anon: 3_000, service_role: 8_000 };
const CONNECT_TIMEOUT_MS = 10_000;
/** On top of the statement timeout, which Postgres itself keeps: only a Postgres that is stuck runs into it. */
const STUCK_AFTER_MS = 5_000;

export function openDatabase(options: DatabaseOptions): Database {
  const timeouts = { ...STATEMENT_TIMEOUT_MS, ...options.statementTimeoutMs };
  const pool = new pg.Pool({
    ...options.connection,
    max: options.maxConnections ?? 10,
    // Sends BEGIN and the first statement in one round trip.
    pipeline: true,
    options: '-c search_path=public,extensions -c timezone=UTC -c application_name=gateway',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: Math.max(...Object.values(timeouts)) + STUCK_AFTER_MS,
    idleTimeoutMillis: 60_000,
  });
  // An idle connection that breaks is replaced at the next call.
  let closing = false;
  pool.on('error', (error) => {
    if (!closing) options.log?.(`idle Postgres connection lost: ${error.message}`);
  });
  // One that breaks while it is used says so to whoever waits for its answer as well.
  pool.on('connect', (client) => client.on('error', () => {}));

  const begin = ({ role, readOnly }: Access): string =>
    [
      readOnly ? 'begin read only' : 'begin',
      // Both are from closed sets: no text of a request gets into these.
      `set local role ${role}`,
      `set local statement_timeout = ${timeouts[role]}`,
      `select set_config('request.jwt.claims', '{"role":"${role}"}', true)` +
        (options.now ? `, set_config('mobvibe.now', '${options.now().toISOString()}', true)` : ''),
    ].join('; ');

  return {
    async transaction(access, work) {
      const client = await pool.connect().catch((cause: Error) => {
        const waited = /timeout exceeded/.test(cause.message);
        throw new DatabaseDown(waited ? 'pool_timeout' : 'unreachable', { cause });
      });
      let unusable = false;
      let committing = false;
      const begun = client.query(begin(access));
      begun.catch(() => {}); // Awaited below, after the first statement has been sent as well.
      try {
        const result = await work((text, values) => client.query(text, values));
        await begun;
        committing = !access.readOnly;
        await client.query('commit');
        return result;
      } catch (error) {
        const refused = await begun.then(
          () => undefined,
          (reason: unknown) => reason,
        );
        unusable = await client.query('rollback').then(
          () => false,
          () => true,
        );
        if (unusable) throw new DatabaseDown(committing ? 'in_doubt' : 'broken', { cause: refused ?? error });
        throw refused ?? error;
      } finally {
        client.release(unusable);
      }
    },
    close() {
      closing = true;
      return pool.end();
    },
  };
}
