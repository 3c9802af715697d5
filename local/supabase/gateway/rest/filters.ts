import { NotSupported } from '../http.ts';
import { columnName } from './column-name.ts';
import { RestError } from './errors.ts';

export type Condition =
  | { type: 'and' | 'or'; negated: boolean; parts: Condition[] }
  | { type: 'compare'; negated: boolean; column: string; operator: string; value: string }
  | { type: 'in'; negated: boolean; column: string; values: string[] }
  | { type: 'is'; negated: boolean; column: string; keyword: string };

/** Operators that compare with one value, as SQL. */
const COMPARISONS: Record<string, string> = {
  eq: '=',
  neq: '<>',
  gt: '>',
  gte: '>=',
  lt: '<',
  lte: '<=',
  like: 'like',
  ilike: 'ilike',
};

/** Right hand sides of `is`, as SQL. */
const IS_KEYWORDS: Record<string, string> = {
  null: 'null',
  not_null: 'not null',
  true: 'true',
  false: 'false',
  unknown: 'unknown',
};

/** PostgREST has these; the stand-in does not. */
const OTHER_OPERATORS = /^(match|imatch|isdistinct|fts|plfts|phfts|wfts|cs|cd|ov|sl|sr|nxr|nxl|adj)$/;

const FILTER = /^(not\.)?([a-z]+)(\([^.]*\))?\.([\s\S]*)$/;

/** Whether PostgREST would take a parameter of `GET /rpc/…` with this value as a filter. */
export function isFilterValue(value: string): boolean {
  const operator = FILTER.exec(value)?.[2];
  return (
    operator !== undefined &&
    (Object.hasOwn(COMPARISONS, operator) || /^(in|is)$/.test(operator) || OTHER_OPERATORS.test(operator))
  );
}

/** `eq.5`, `not.in.(a,"b,c")`, `is.null`, … */
export function parseFilter(column: string, text: string): Condition {
  const match = FILTER.exec(text);
  if (!match) throw unparsable('filter', text);
  const [, not, operator, modifier, value] = match as unknown as [string, string?, string?, string?, string?];
  const negated = not !== undefined;
  if (modifier || OTHER_OPERATORS.test(operator!)) {
    throw new NotSupported(`the operator ${operator}${modifier ?? ''} (filter of column ${column})`);
  }
  if (operator === 'in') {
    const list = /^\(([\s\S]*)\)$/.exec(value!)?.[1];
    if (list === undefined) throw unparsable('filter', text);
    return { type: 'in', negated, column, values: parseInList(list) };
  }
  if (operator === 'is') {
    const keyword = value!.toLowerCase();
    if (!Object.hasOwn(IS_KEYWORDS, keyword)) throw unparsable('filter', text);
    return { type: 'is', negated, column, keyword: IS_KEYWORDS[keyword]! };
  }
  if (!Object.hasOwn(COMPARISONS, operator!)) throw unparsable('filter', text);
  const sql = COMPARISONS[operator!]!;
  // PostgREST lets * stand for % in patterns, because % must be escaped in a URL.
  return {
    type: 'compare',
    negated,
    column,
    operator: sql,
    value: /like$/.test(sql) ? value!.replaceAll('*', '%') : value!,
  };
}

/** `or=(a.eq.1,and(b.lt.2,c.is.null))`; `name` may begin with `not.`. */
export function parseLogic(name: string, text: string): Condition {
  const inner = /^\(([\s\S]*)\)$/.exec(text)?.[1];
  if (inner === undefined) throw unparsable('logic tree', text);
  const parts = splitLogic(inner).map((part): Condition => {
    const nested = /^((?:not\.)?(?:and|or))(\([\s\S]*\))$/.exec(part);
    if (nested) return parseLogic(nested[1]!, nested[2]!);
    const leaf = /^("(?:[^"\\]|\\.)+"|[^."]+)\.([\s\S]+)$/.exec(part);
    if (!leaf) throw unparsable('logic tree', text);
    const filter = parseFilter(columnName(leaf[1]!, name), leaf[2]!);
    return filter.type === 'compare' ? { ...filter, value: unquote(filter.value) } : filter;
  });
  if (parts.length === 0) throw unparsable('logic tree', text);
  return { type: name.endsWith('and') ? 'and' : 'or', negated: name.startsWith('not.'), parts };
}

/** Splits at commas outside of quotes and of nested parentheses. */
function splitLogic(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let quoted = false;
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (quoted && char === '\\') at++;
    else if (char === '"') quoted = !quoted;
    else if (quoted) continue;
    else if (char === '(') depth++;
    else if (char === ')') depth--;
    else if (char === ',' && depth === 0) {
      parts.push(text.slice(start, at));
      start = at + 1;
    }
    if (depth < 0) throw unparsable('logic tree', text);
  }
  if (depth !== 0 || quoted) throw unparsable('logic tree', text);
  if (text.length > 0) parts.push(text.slice(start));
  return parts;
}

function parseInList(list: string): string[] {
  if (list === '') return [];
  const values: string[] = [];
  // A quote that is not closed before the next comma is a character like any other, as for PostgREST.
  const item = /(?:"((?:[^"\\]|\\.)*)"(?=,|$)|([^,)]*))(,|$)/gsy;
  for (;;) {
    const match = item.exec(list);
    if (!match) throw unparsable('in list', `(${list})`);
    values.push(match[1] === undefined ? (match[2] ?? '') : match[1].replace(/\\(.)/gs, '$1'));
    if (match[3] === '') return values;
  }
}

function unquote(value: string): string {
  const inner = /^"((?:[^"\\]|\\.)*)"$/s.exec(value)?.[1];
  return inner === undefined ? value : inner.replace(/\\(.)/gs, '$1');
}

function unparsable(what: string, text: string): RestError {
  return new RestError(400, 'PGRST100', `"failed to parse ${what} (${text})"`);
}
