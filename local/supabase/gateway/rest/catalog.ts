import type { Query } from '../database.ts';

/** How a function's rows are delivered: `void` 204, `scalar` a bare value, `composite` an object. */
export type ResultKind = 'void' | 'scalar' | 'composite' | 'unsupported';

export interface FunctionInfo {
  name: string;
  /** In order. `type` as `format_type` writes it: safe to put into SQL. */
  args: { name: string; type: string; optional: boolean }[];
  /** True: returns a set, delivered as an array. */
  set: boolean;
  kind: ResultKind;
  /** Variadic or with unnamed arguments: not callable here. */
  odd: boolean;
}

/** What schema `public` offers. Reading it costs about a millisecond. */
export interface Catalog {
  functions: Map<string, FunctionInfo[]>;
  relations: Set<string>;
}

interface FunctionRow {
  name: string;
  set: boolean;
  variadic: boolean;
  defaults: number;
  names: string[] | null;
  modes: string[] | null;
  types: string[];
  result_type: string;
  result_kind: string;
}

const FUNCTIONS = `
  select p.proname::text as name, p.proretset as set, p.provariadic <> 0 as variadic, p.pronargdefaults as defaults,
         p.proargnames::text[] as names, p.proargmodes::text[] as modes,
         array(select pg_catalog.format_type(u.type, null)
               from unnest(p.proargtypes) with ordinality as u(type, place) order by u.place) as types,
         t.typname::text as result_type, t.typtype::text as result_kind
  from pg_catalog.pg_proc p
  join pg_catalog.pg_type t on t.oid = p.prorettype
  where p.pronamespace = 'public'::regnamespace and p.prokind = 'f'
    and t.typname not in ('trigger', 'event_trigger')`;

const RELATIONS = `
  select relname::text as name from pg_catalog.pg_class
  where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'm', 'f', 'p')`;

export async function readCatalog(query: Query): Promise<Catalog> {
  const [functions, relations] = await Promise.all([query(FUNCTIONS), query(RELATIONS)]);
  return {
    functions: Map.groupBy((functions.rows as FunctionRow[]).map(describe), (info) => info.name),
    relations: new Set((relations.rows as { name: string }[]).map((row) => row.name)),
  } as Catalog;
}

function describe(row: FunctionRow): FunctionInfo {
  const inputs = inputNames(row);
  const firstOptional = row.types.length - row.defaults;
  return {
    name: row.name,
    args: row.types.map((type, place) => ({
      name: inputs[place] ?? '',
      type,
      optional: place >= firstOptional,
    })),
    set: row.set,
    kind: resultKind(row),
    odd: row.variadic || row.types.some((_, place) => !inputs[place]),
  };
}

/** `names` covers output columns as well when `modes` is there. */
function inputNames({ names, modes }: FunctionRow): string[] {
  if (!names) return [];
  return modes ? names.filter((_, place) => 'ibv'.includes(modes[place]!)) : names;
}

function resultKind({ result_type, result_kind, modes }: FunctionRow): ResultKind {
  if (result_type === 'void') return 'void';
  if (modes?.some((mode) => 'obt'.includes(mode))) return 'composite';
  if (result_kind === 'c') return 'composite';
  return result_type === 'record' ? 'unsupported' : 'scalar';
}
