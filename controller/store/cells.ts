import { type Database, value } from './database.ts';
import type { CellRow } from './rows.ts';

/** The cells of a stack; `actor` goes into the event that each change writes. */
export function cellStore(database: Database) {
  return {
    /** Makes these apps known as the stack's cells; answers all of them, also those that were named by others or earlier. */
    declareCells(stack: string, apps: readonly string[], actor: string) {
      return value<CellRow[]>(
        'cells_declare',
        database.rpc('cells_declare', { p_stack: stack, p_apps: apps, p_actor: actor }),
      );
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
