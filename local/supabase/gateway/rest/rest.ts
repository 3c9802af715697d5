import type { Database } from '../database.ts';
import { NotSupported, type Reply, ReplyError } from '../http.ts';
import type { RestContext, RestRequest } from './context.ts';
import { RestError, restErrorOf } from './errors.ts';
import { checkPage, type PageRow, pageReply } from './page.ts';
import { parseReadQuery } from './query-string.ts';
import { callRpc } from './rpc.ts';
import type { SchemaCache } from './schema-cache.ts';
import { selectTable } from './sql.ts';
import { type Wishes, wishesOf } from './wishes.ts';

/** The REST half: functions and reads of schema `public`, as PostgREST answers them. */
export function createRest(
  database: Database,
  cache: Pick<SchemaCache, 'catalog'>,
): (request: RestRequest) => Promise<Reply> {
  const context: RestContext = {
    catalog: () => cache.catalog(),
    run(access, statement, check) {
      return database.transaction(access, async (query) => {
        const row = (await query(statement.text, statement.values)).rows[0];
        check?.(row);
        return row;
      });
    },
  };
  return async (request) => {
    try {
      return await route(request, context);
    } catch (error) {
      if (error instanceof ReplyError) throw error;
      throw restErrorOf(error, request.role === 'anon') ?? error;
    }
  };
}

async function route(request: RestRequest, context: RestContext): Promise<Reply> {
  const { path, message } = request;
  const name = decodeName(path);
  if (name === '') throw new NotSupported('the OpenAPI description at /rest/v1/');
  if (name.startsWith('rpc/')) return await callRpc(request, name.slice(4), wishesOf(message), context);
  if (name.includes('/')) throw new RestError(404, 'PGRST125', 'Invalid path specified in request URL');
  if (message.method !== 'GET' && message.method !== 'HEAD') {
    throw new NotSupported(
      `${message.method} on a table: changes go through functions (POST /rest/v1/rpc/…)`,
    );
  }
  return await readTable(request, name, wishesOf(message), context);
}

async function readTable(
  request: RestRequest,
  table: string,
  wishes: Wishes,
  context: RestContext,
): Promise<Reply> {
  const query = parseReadQuery(request.params);
  if (!context.catalog().relations.has(table)) {
    throw new RestError(404, 'PGRST205', `Could not find the table 'public.${table}' in the schema cache`);
  }
  const access = { role: request.role, readOnly: true };
  const row = await context.run<PageRow>(access, selectTable(table, query, wishes.count), (found) =>
    checkPage(found, query.offset, wishes),
  );
  return pageReply(row, query.offset, wishes);
}

function decodeName(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    throw new RestError(404, 'PGRST125', 'Invalid path specified in request URL');
  }
}
