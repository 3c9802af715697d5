import { type Database, value } from './database.ts';

export function retentionStore(database: Database) {
  return {
    /** Removes up to `limit` rows that are older than `keepMs`; answers how many there were. */
    purge(keepMs: number, limit: number) {
      return value<number>('purge', database.rpc('purge', { p_keep_ms: keepMs, p_limit: limit }));
    },
  };
}
