import { type Database, rows, value } from './database.ts';
import type { CellRow } from './rows.ts';

/** A cell as `cells_renew` tells of it. */
export type KnownCell = CellRow & {
  /** Nobody holds it, or its holder has let the lease expire. */
  free: boolean;
};

export interface Renewal {
  cells: KnownCell[];
  /** By address. */
  controllers: string[];
  able: string[];
  /** ISO 8601. */
  now: string;
}

/** The cells of a stack and who works for them. Each change writes an event with `actor`; a renewal writes none. */
export function cellStore(database: Database) {
  return {
    /**
     * Names the stack's cells, renews what is held (tokens by app) and answers all cells, all controllers that are alive, those of them that
     * reach Fly, and the database's time.
     */
    renewCells(renewal: {
      stack: string;
      apps: readonly string[];
      holder: string;
      held: Record<string, number>;
      leaseMs: number;
      actor: string;
      /** Whether this controller reaches Fly. */
      able?: boolean;
    }) {
      return value<Renewal>(
        'cells_renew',
        database.rpc('cells_renew', {
          p_stack: renewal.stack,
          p_apps: renewal.apps,
          p_holder: renewal.holder,
          p_held: renewal.held,
          p_lease_ms: renewal.leaseMs,
          p_actor: renewal.actor,
          p_able: renewal.able ?? true,
        }),
      );
    },

    /** The cell as it is now, held by another where it was not to be had; null where it was forgotten. */
    async holdCell(app: string, holder: string, leaseMs: number, actor: string): Promise<CellRow | null> {
      const call = { p_app: app, p_holder: holder, p_lease_ms: leaseMs, p_actor: actor };
      return (await rows<CellRow>('cell_hold', database.rpc('cell_hold', call)))[0] ?? null;
    },

    async releaseCell(app: string, token: number, actor: string): Promise<void> {
      await value(
        'cell_release',
        database.rpc('cell_release', { p_app: app, p_token: token, p_actor: actor }),
      );
    },

    async leave(holder: string): Promise<void> {
      await value('controller_leave', database.rpc('controller_leave', { p_holder: holder }));
    },

    /** False while a sandbox lives in it. */
    forgetCell(app: string, stack: string, actor: string) {
      return value<boolean>(
        'cell_forget',
        database.rpc('cell_forget', { p_app: app, p_stack: stack, p_actor: actor }),
      );
    },
  };
}
