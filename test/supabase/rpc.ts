import type { Pool } from 'pg';

export interface CallOptions {
  /** What `mobvibe.now()` answers during the call. */
  now?: Date;
  role?: 'service_role' | 'anon' | 'authenticated';
}

/** Calls a function of `public` in a transaction of its own, with the rights of service_role; answers its rows as the API would. */
export type Rpc = <T = Record<string, unknown>>(
  name: string,
  args: Record<string, unknown>,
  options?: CallOptions,
) => Promise<T[]>;

export function rpcOn(pool: Pool): Rpc {
  return async <T>(name: string, args: Record<string, unknown>, options: CallOptions = {}) => {
    const client = await pool.connect();
    try {
      await client.query('begin');
      await client.query(`set local role ${options.role ?? 'service_role'}`);
      await client.query(`select set_config('mobvibe.now', $1, true)`, [options.now?.toISOString() ?? '']);
      const names = Object.keys(args).map((key, place) => `${key} => $${place + 1}`);
      const values = Object.values(args).map((value) =>
        typeof value === 'object' && value !== null ? JSON.stringify(value) : value,
      );
      const { rows } = await client.query(
        `select to_jsonb(r) as row from public.${name}(${names.join(', ')}) r`,
        values,
      );
      await client.query('commit');
      return rows.map(({ row }) => row as T);
    } catch (error) {
      await client.query('rollback').catch(() => {});
      throw error;
    } finally {
      client.release();
    }
  };
}

/** The one row of an answer. */
export async function only<T>(rows: Promise<T[]>): Promise<T> {
  const answer = await rows;
  if (answer.length !== 1) throw new Error(`expected one row, got ${answer.length}`);
  return answer[0]!;
}

/** What a refusal with this code of controller/errors.ts looks like to `pg`. */
export function refusal(code: string): { code: string; detail: string } {
  const status = code.endsWith('_not_found') ? 'PT404' : code === 'invalid_request' ? 'PT400' : 'PT409';
  return { code: status, detail: code };
}
