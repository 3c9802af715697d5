import { cellStore } from './cells.ts';
import type { Database } from './database.ts';
import { execStore } from './execs.ts';
import { jobStore } from './jobs.ts';
import { keyStore } from './keys.ts';
import { manifestStore } from './manifests.ts';
import { reading } from './reading.ts';
import { retentionStore } from './retention.ts';
import { type LeaseOf, sandboxStore } from './sandboxes.ts';

/**
 * The truth: one typed function for each SQL function of `supabase/migrations`, and the reads. Every write is safe to repeat.
 * Rejects with `CodedError` alone: the function's own code, or, when there was no usable answer,
 * `database_unavailable`, and `database_lost` for a write that may have been made. Moves of sandboxes carry the lease of their cell.
 */
export function createStore(database: Database, leaseOf: LeaseOf = () => null) {
  return {
    ...reading(database),
    ...sandboxStore(database, leaseOf),
    ...cellStore(database),
    ...manifestStore(database),
    ...jobStore(database),
    ...execStore(database),
    ...keyStore(database),
    ...retentionStore(database),
  };
}

export type Store = ReturnType<typeof createStore>;
