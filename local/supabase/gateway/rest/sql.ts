import type { FunctionInfo } from './catalog.ts';
import type { Condition } from './filters.ts';
import type { Order, ReadQuery } from './query-string.ts';

export interface Statement {
  text: string;
  values: unknown[];
}

/** The hosted default (`[api] max_rows`): more rows than this never come in one answer. */
export const MAX_ROWS = 1000;

/** An identifier, safe whatever is in it. */
export function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Collects the values of a statement: nothing of a request but quoted identifiers ever gets into its text. */
class Values {
  readonly list: unknown[] = [];

  add(value: unknown): string {
    return `$${this.list.push(value)}`;
  }
}

/** One row `{ rows, body, total }`: how many rows the page has, the page as JSON text, and how many match in all. */
export function selectTable(table: string, query: ReadQuery, countAll: boolean): Statement {
  const values = new Values();
  const source = `public.${identifier(table)}`;
  return { text: page(source, identifier(table), query, countAll, values), values: values.list };
}

/**
 * A call whose result is rows: a set, or one composite value. Arguments come as a JSON object and get their types from
 * the function's own signature, as PostgREST does it.
 */
export function callForRows(
  info: FunctionInfo,
  args: CallArguments,
  query: ReadQuery,
  countAll: boolean,
): Statement {
  const values = new Values();
  const { prefix, call } = invocation(info, args, values);
  const alias = identifier(info.name);
  const from = `${prefix}${call} as ${info.kind === 'composite' ? 'called' : 'called(value)'}`;
  const source = `with source as (select called.* from ${from}) `;
  if (info.kind !== 'composite') {
    const limited = `select value from source limit ${Math.min(query.limit ?? MAX_ROWS, MAX_ROWS)} offset ${query.offset}`;
    const total = countAll ? '(select count(*) from source)::int' : 'null::int';
    return {
      text:
        `${source}select count(*)::int as rows, coalesce(json_agg(page.value), '[]')::text as body, ` +
        `${total} as total from (${limited}) as page`,
      values: values.list,
    };
  }
  return { text: source + page('source', alias, query, countAll, values), values: values.list };
}

/** A call whose result is one value: one row `{ body }`, its JSON text. */
export function callForValue(info: FunctionInfo, args: CallArguments): Statement {
  const values = new Values();
  const { prefix, call } = invocation(info, args, values);
  // json_agg turns any type into JSON, an SQL null included.
  const text = `select (json_agg(called.value) -> 0)::text as body from ${prefix}${call} as called(value)`;
  return { text, values: values.list };
}

/** A call without a result. */
export function callForNothing(info: FunctionInfo, args: CallArguments): Statement {
  const values = new Values();
  const { prefix, call } = invocation(info, args, values);
  return { text: `select count(*) from ${prefix}${call} as called(nothing)`, values: values.list };
}

/** `json`: the text of a JSON object (POST). `literals`: each argument as Postgres writes it (GET). */
export type CallArguments =
  | { type: 'json'; names: string[]; json: string }
  | { type: 'literals'; values: ReadonlyMap<string, string> };

function invocation(
  info: FunctionInfo,
  args: CallArguments,
  values: Values,
): { prefix: string; call: string } {
  const given = args.type === 'json' ? args.names : [...args.values.keys()];
  const used = info.args.filter((arg) => given.includes(arg.name));
  const target = `public.${identifier(info.name)}`;
  if (args.type === 'literals') {
    const list = used.map(
      (arg) => `${identifier(arg.name)} := ${values.add(args.values.get(arg.name))}::${arg.type}`,
    );
    return { prefix: '', call: `${target}(${list.join(', ')})` };
  }
  if (used.length === 0) return { prefix: '', call: `${target}()` };
  const columns = used.map((arg) => `${identifier(arg.name)} ${arg.type}`).join(', ');
  const list = used.map((arg) => `${identifier(arg.name)} := body.${identifier(arg.name)}`).join(', ');
  return {
    prefix: `json_to_record(${values.add(args.json)}::json) as body(${columns}), lateral `,
    call: `${target}(${list})`,
  };
}

function page(source: string, alias: string, query: ReadQuery, countAll: boolean, values: Values): string {
  const column = (name: string) => `${alias}.${identifier(name)}`;
  const columns = query.columns ? query.columns.map(column).join(', ') : `${alias}.*`;
  const conditions = query.where.map((condition) => conditionSql(condition, column, values));
  const where = conditions.length > 0 ? ` where ${conditions.join(' and ')}` : '';
  const from = `from ${source} as ${alias}${where}`;
  const order =
    query.order.length > 0 ? ` order by ${query.order.map((term) => orderSql(term, column)).join(', ')}` : '';
  const limit = Math.min(query.limit ?? MAX_ROWS, MAX_ROWS);
  const total = countAll ? `(select count(*) ${from})::int` : 'null::int';
  return (
    `select count(*)::int as rows, coalesce(json_agg(one_row_of_the_page), '[]')::text as body, ${total} as total ` +
    `from (select ${columns} ${from}${order} limit ${limit} offset ${query.offset}) as one_row_of_the_page`
  );
}

function orderSql(term: Order, column: (name: string) => string): string {
  return `${column(term.column)}${term.descending ? ' desc' : ''}${term.nulls ? ` nulls ${term.nulls}` : ''}`;
}

function conditionSql(condition: Condition, column: (name: string) => string, values: Values): string {
  const sql = positiveSql(condition, column, values);
  return condition.negated ? `not (${sql})` : sql;
}

function positiveSql(condition: Condition, column: (name: string) => string, values: Values): string {
  switch (condition.type) {
    case 'and':
    case 'or':
      return `(${condition.parts.map((part) => conditionSql(part, column, values)).join(` ${condition.type} `)})`;
    case 'is':
      return `${column(condition.column)} is ${condition.keyword}`;
    case 'in':
      return `${column(condition.column)} = any(${values.add(arrayLiteral(condition.values))})`;
    case 'compare':
      return `${column(condition.column)} ${condition.operator} ${values.add(condition.value)}`;
  }
}

/** A Postgres array literal whose type comes from the column. */
function arrayLiteral(values: string[]): string {
  return `{${values.map((value) => `"${value.replace(/["\\]/g, '\\$&')}"`).join(',')}}`;
}
