import type { IncomingMessage } from 'node:http';
import { header, NotSupported, type Reply, readBody } from '../http.ts';
import type { Catalog, FunctionInfo } from './catalog.ts';
import type { RestContext, RestRequest } from './context.ts';
import { RestError } from './errors.ts';
import { checkPage, type PageRow, pageReply } from './page.ts';
import { parseReadQuery, type ReadQuery } from './query-string.ts';
import { type CallArguments, callForNothing, callForRows, callForValue } from './sql.ts';
import type { Wishes } from './wishes.ts';

/** Larger calls are refused with 413. */
const MAX_BODY_BYTES = 32 * 1024 * 1024;

/** `POST /rest/v1/rpc/<name>` with arguments as a JSON object, or `GET|HEAD` with arguments in the query, read only. */
export async function callRpc(
  request: RestRequest,
  name: string,
  wishes: Wishes,
  context: RestContext,
): Promise<Reply> {
  const { method } = request.message;
  if (method !== 'POST' && method !== 'GET' && method !== 'HEAD') {
    throw new RestError(405, 'PGRST101', `Cannot use the ${method} method on RPC`);
  }
  const readOnly = method !== 'POST';
  const query = parseReadQuery(request.params, readOnly ? 'collect' : 'refuse');
  const args: CallArguments = readOnly
    ? { type: 'literals', values: new Map(query.rest) }
    : await jsonArguments(request.message);
  const given = args.type === 'json' ? args.names : [...args.values.keys()];
  const info = findFunction(context.catalog(), name, given);
  if (!info) throw unknownFunction(name, given);

  const access = { role: request.role, readOnly };
  if (info.kind === 'void' && !info.set) {
    await context.run(access, callForNothing(info, args));
    return { status: 204 };
  }
  if (info.kind === 'scalar' && !info.set) {
    const row = await context.run<{ body: string }>(access, callForValue(info, args));
    if (wishes.minimal) return { status: 204 };
    return { status: 200, headers: { 'content-type': 'application/json; charset=utf-8' }, body: row.body };
  }
  refuseFiltersOnValues(info, query);
  // A single composite is delivered as an object, whatever the caller accepts.
  const delivery = info.set ? wishes : { ...wishes, single: true };
  const row = await context.run<PageRow>(access, callForRows(info, args, query, wishes.count), (found) =>
    checkPage(found, query.offset, delivery),
  );
  if (wishes.minimal) return { status: 204 };
  const reply = pageReply(row, query.offset, delivery);
  if (!wishes.single) reply.headers!['content-type'] = 'application/json; charset=utf-8';
  return reply;
}

async function jsonArguments(message: IncomingMessage): Promise<CallArguments> {
  const type = header(message, 'content-type');
  if (type !== undefined && !/^application\/json\b/.test(type))
    throw new NotSupported(`the header content-type: ${type}`);
  const body = await readBody(message, MAX_BODY_BYTES);
  if (body === undefined) {
    throw new RestError(413, 'body_too_large', `The body is larger than ${MAX_BODY_BYTES} bytes`);
  }
  const text = body.length === 0 ? '{}' : body.toString('utf8');
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new RestError(400, 'PGRST102', 'Empty or invalid json');
  }
  if (Array.isArray(parsed)) throw new NotSupported('a call with an array as body');
  if (typeof parsed !== 'object' || parsed === null)
    throw new RestError(400, 'PGRST102', 'All object keys must match');
  return { type: 'json', names: Object.keys(parsed), json: text };
}

/** The function whose arguments have these names, those with a default apart. */
function findFunction(catalog: Catalog, name: string, given: string[]): FunctionInfo | undefined {
  const named = catalog.functions.get(name) ?? [];
  const fitting = named.filter(
    (info) =>
      given.every((arg) => info.args.some((known) => known.name === arg)) &&
      info.args.every((arg) => arg.optional || given.includes(arg.name)),
  );
  if (fitting.length > 1) {
    throw new RestError(300, 'PGRST203', `Could not choose the best candidate function for public.${name}`, {
      hint: 'Try renaming the parameters or the function itself in the database so function overloading can be resolved',
    });
  }
  const [info] = fitting;
  if (info?.odd || (!info && named.some((candidate) => candidate.odd))) {
    throw new NotSupported(`the function public.${name}: it has variadic or unnamed arguments`);
  }
  if (info?.kind === 'unsupported' || (info?.kind === 'void' && info.set)) {
    throw new NotSupported(`the function public.${name}: its result has no columns`);
  }
  return info;
}

function unknownFunction(name: string, given: string[]): RestError {
  const list = given.join(', ');
  const wanted = given.length === 0 ? `public.${name} without parameters` : `public.${name}(${list})`;
  const searched = given.length === 0 ? 'without parameters' : `with parameters ${list}`;
  return new RestError(404, 'PGRST202', `Could not find the function ${wanted} in the schema cache`, {
    details:
      `Searched for the function public.${name} ${searched} or with a single unnamed json/jsonb parameter, ` +
      'but no matches were found in the schema cache.',
  });
}

function refuseFiltersOnValues(info: FunctionInfo, query: ReadQuery): void {
  if (info.kind === 'composite') return;
  if (query.where.length > 0 || query.order.length > 0 || query.columns) {
    throw new NotSupported(`filters, order or select on public.${info.name}, which returns plain values`);
  }
}
