import type { Reply } from '../http.ts';
import { RestError } from './errors.ts';
import type { Wishes } from './wishes.ts';

/** A page of rows as the statements of `sql.ts` deliver it. */
export interface PageRow {
  rows: number;
  body: string;
  total: number | null;
}

/** Refuses what can't be delivered as asked; before the commit, so that a refused call changed nothing. */
export function checkPage(row: PageRow, offset: number, wishes: Wishes): void {
  if (wishes.single && row.rows !== 1) {
    throw new RestError(406, 'PGRST116', 'Cannot coerce the result to a single JSON object', {
      details: `The result contains ${row.rows} rows`,
    });
  }
  if (row.total !== null && offset > 0 && offset > row.total) {
    throw new RestError(416, 'PGRST103', 'Requested range not satisfiable', {
      details: `An offset of ${offset} was requested, but there are only ${row.total} rows.`,
    });
  }
}

export function pageReply(row: PageRow, offset: number, wishes: Wishes): Reply {
  const range = row.rows === 0 ? '*' : `${offset}-${offset + row.rows - 1}`;
  const partial = row.total !== null && row.rows < row.total;
  return {
    status: partial ? 206 : 200,
    headers: {
      'content-type': wishes.single
        ? 'application/vnd.pgrst.object+json; charset=utf-8'
        : 'application/json; charset=utf-8',
      'content-range': `${range}/${row.total ?? '*'}`,
    },
    // A page of one row: without its brackets.
    body: wishes.single ? row.body.slice(1, -1) : row.body,
  };
}
