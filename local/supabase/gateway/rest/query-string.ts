import { NotSupported } from '../http.ts';
import { columnName } from './column-name.ts';
import { RestError } from './errors.ts';
import { type Condition, isFilterValue, parseFilter, parseLogic } from './filters.ts';

export interface Order {
  column: string;
  descending: boolean;
  nulls: 'first' | 'last' | undefined;
}

/** What the query string of a read asks for. */
export interface ReadQuery {
  /** `undefined`: all columns. */
  columns: string[] | undefined;
  where: Condition[];
  order: Order[];
  limit: number | undefined;
  offset: number;
  /** Parameters that are no filters: the arguments of `GET /rpc/…`. */
  rest: [name: string, value: string][];
}

/** PostgREST docs, "Tables and views". Embedding, aliases, casts and JSON paths are not supported. */
export function parseReadQuery(params: URLSearchParams, plain: 'refuse' | 'collect' = 'refuse'): ReadQuery {
  const query: ReadQuery = {
    columns: undefined,
    where: [],
    order: [],
    limit: undefined,
    offset: 0,
    rest: [],
  };
  for (const [name, value] of params) {
    if (name === 'select') query.columns = parseColumns(value);
    else if (name === 'order') query.order = splitList(value).map(parseOrder);
    else if (name === 'limit') query.limit = parseCount(name, value);
    else if (name === 'offset') query.offset = parseCount(name, value);
    else if (name === 'columns' || name === 'on_conflict')
      throw new NotSupported(`the query parameter ${name}`);
    else if (/^(not\.)?(and|or)$/.test(name)) query.where.push(parseLogic(name, value));
    else if (plain === 'collect' && !isFilterValue(value)) query.rest.push([name, value]);
    else query.where.push(parseFilter(columnName(name, 'filter'), value));
  }
  return query;
}

function parseColumns(value: string): string[] | undefined {
  const items = splitList(value);
  if (items.length === 0 || items.includes('*')) {
    const others = items.filter((item) => item !== '*');
    if (others.length > 0) throw new NotSupported(`select=${value}: columns beside *`);
    return undefined;
  }
  return items.map((item) => columnName(item, 'select'));
}

function parseOrder(item: string): Order {
  const match = /^(.*?)(\.(?:asc|desc))?(?:\.nulls(first|last))?$/.exec(item)!;
  return {
    column: columnName(match[1]!, 'order'),
    descending: match[2] === '.desc',
    nulls: match[3] as Order['nulls'],
  };
}

function parseCount(name: string, value: string): number {
  if (/^\d{1,15}$/.test(value)) return Number(value);
  throw new RestError(400, 'PGRST100', `"failed to parse ${name} parameter (${value})"`);
}

/** Splits at commas outside of quotes and parentheses. */
function splitList(value: string): string[] {
  return (value.match(/(?:"(?:[^"\\]|\\.)*"|\([^)]*\)|[^,])+/g) ?? []).map((item) => item.trim());
}
