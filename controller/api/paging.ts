import { CodedError } from '../errors.ts';

const DEFAULT_LIMIT = 50;

export interface PageRequest {
  cursor?: string;
  limit?: number;
}

export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

/**
 * One page of a list that the store delivers in the order of its ids. The cursor holds the last id of the page before, so rows
 * that come or go in between are neither shown twice nor make others skipped. One row more than asked for tells if there is more.
 */
export async function page<Row extends { id: string | number }, T>(
  request: PageRequest,
  ids: 'text' | 'number',
  list: (query: { after?: Row['id']; limit: number }) => Promise<Row[]>,
  present: (row: Row) => T,
): Promise<Page<T>> {
  const limit = request.limit ?? DEFAULT_LIMIT;
  const after = request.cursor === undefined ? {} : { after: decodeCursor(request.cursor, ids) };
  const rows = await list({ ...after, limit: limit + 1 });
  const shown = rows.slice(0, limit);
  const next_cursor = rows.length > limit ? encodeCursor(shown.at(-1)!.id) : null;
  return { items: shown.map(present), next_cursor };
}

function encodeCursor(id: string | number): string {
  return Buffer.from(JSON.stringify(id)).toString('base64url');
}

function decodeCursor<Id extends string | number>(cursor: string, ids: 'text' | 'number'): Id {
  try {
    const id = JSON.parse(Buffer.from(cursor, 'base64url').toString());
    if (ids === 'text' ? typeof id === 'string' : Number.isSafeInteger(id)) return id;
  } catch {
    // Said below.
  }
  const shown = JSON.stringify(cursor.slice(0, 100));
  throw new CodedError(
    'invalid_request',
    `cursor is ${shown}: must be the next_cursor of a page of this list`,
    {
      field: 'cursor',
    },
  );
}
