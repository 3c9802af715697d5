/**
 * A stand-in for the API of a Supabase project, on loopback, in front of a real Postgres. It is not Supabase: it answers the calls
 * below as Supabase does (PostgREST and Storage docs; requests of supabase-js 2.119 recorded) and everything else with 501 and a
 * message that names what is missing.
 *
 * REST, `/rest/v1`, schema `public`:
 * - `POST|GET|HEAD rpc/<function>`, arguments by name; sets, composites, scalars, void; filters on functions that return rows.
 * - `GET|HEAD <table or view>` with `select` of plain columns, `eq neq gt gte lt lte like ilike in is`, `not.`, `and`, `or`,
 *   `order`, `limit`, `offset`, `prefer: count=exact`, `.single()`; at most 1000 rows.
 * - Roles by key, statement timeouts, row-level security and grants are Postgres's own.
 * - Not supported: changes of tables (insert, update, upsert, delete), embedding, aliases, casts, JSON paths, aggregates, other
 *   operators (full text, arrays, ranges, regular expressions), CSV, `prefer` beyond `count=exact` and `return=minimal`, overloads
 *   that argument names can't tell apart, variadic and unnamed arguments, `request.headers` and the like as settings.
 * - A change of the schema is noticed a moment later, as by PostgREST: what is new is unknown until then (PGRST202, PGRST205), and
 *   while the schema is read nothing is served (PGRST002).
 *
 * Storage, `/storage/v1`:
 * - buckets: create, get, list. Objects: upload (raw, streamed; forms up to 64 MiB), update, download with ranges and `etag`, info,
 *   list (v1), remove, move, copy, signed download URLs (one or up to 1000), signed upload URLs.
 * - Not supported: public buckets, changing, emptying and deleting buckets, list v2, resumable uploads (TUS), S3, image
 *   transformations, vectors, analytics.
 *
 * Keys: `sb_secret_…` and `sb_publishable_…`; no JWTs, so no users. Auth, Realtime, Functions and GraphQL are not there. No CORS.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type AccessKeys, roleOfRequest } from './access.ts';
import { type Database, type DatabaseOptions, openDatabase } from './database.ts';
import { json, NotSupported, type Reply, ReplyError, send } from './http.ts';
import { createRest } from './rest/rest.ts';
import { type CacheDelays, openSchemaCache, type SchemaCache } from './rest/schema-cache.ts';
import { type BlobStore, openBlobStore } from './storage/blobs.ts';
import { createStorage } from './storage/storage.ts';

export interface GatewayOptions extends DatabaseOptions {
  keys: AccessKeys & {
    /** Signs the tokens of signed URLs. */
    jwtSecret: string;
  };
  /** Where the bytes of objects are kept. No other process may write to it. */
  storageDir: string;
  /** On 127.0.0.1; 0: any free one. Default 0. */
  port?: number;
  /** Largest object of any bucket. Default 5 GB, the hosted limit of a plain upload (Supabase docs, "File limits"). */
  maxObjectBytes?: number;
  schemaCache?: CacheDelays;
}

export interface Gateway {
  /** `http://127.0.0.1:<port>`: the `SUPABASE_URL`. */
  url: string;
  /** Ends what is under way and closes the connections to Postgres. */
  close(): Promise<void>;
}

const MAX_OBJECT_BYTES = 5e9;
/** A connection on which nothing moves: longer than any statement may take. */
const IDLE_SOCKET_MS = 60_000;

export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const database = openDatabase(options);
  let cache: SchemaCache | undefined;
  try {
    cache = await openSchemaCache({ ...options, ...options.schemaCache, database });
    const blobs = await openBlobStore(options.storageDir);
    await sweepUnknown(blobs, database);
    const server = createServer({ keepAliveTimeout: IDLE_SOCKET_MS, requestTimeout: 0 });
    server.timeout = IDLE_SOCKET_MS;
    const answer = createAnswer(options, database, cache, blobs);
    server.on('request', (message, response) => void handle(message, response, answer, options.log));
    await listen(server, options.port ?? 0);
    return {
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      async close() {
        const closed = new Promise((resolve) => server.close(resolve));
        server.closeAllConnections();
        await closed;
        await cache?.close();
        await database.close();
      },
    };
  } catch (error) {
    await cache?.close();
    await database.close();
    throw error;
  }
}

/** What a crash left: half an upload, bytes whose row was never written or is gone. */
async function sweepUnknown(blobs: BlobStore, database: Database): Promise<void> {
  const { rows } = await database.transaction({ role: 'service_role', readOnly: true }, (query) =>
    query('select version from storage.objects where version is not null'),
  );
  await blobs.sweep(new Set(rows.map((row: { version: string }) => row.version)));
}

type Answer = (message: IncomingMessage) => Promise<Reply>;

function createAnswer(
  options: GatewayOptions,
  database: Database,
  cache: SchemaCache,
  blobs: BlobStore,
): Answer {
  const { keys, now = () => new Date(), maxObjectBytes = MAX_OBJECT_BYTES } = options;
  const rest = createRest(database, cache);
  const storage = createStorage({ database, blobs, jwtSecret: keys.jwtSecret, maxObjectBytes, now });
  return async (message) => {
    const [path = '', search = ''] = splitOnce(message.url ?? '/', '?');
    const params = new URLSearchParams(search);
    const roleOf = () => roleOfRequest(message, keys);
    const restPath = after(path, '/rest/v1/');
    if (restPath !== undefined) return await rest({ message, role: roleOf(), path: restPath, params });
    const storagePath = after(path, '/storage/v1/');
    if (storagePath !== undefined) return await storage(message, storagePath, params, roleOf);
    throw new NotSupported(`${message.method} ${path}`);
  };
}

async function handle(
  message: IncomingMessage,
  response: ServerResponse,
  answer: Answer,
  log: GatewayOptions['log'],
): Promise<void> {
  const call = `${message.method} ${pathOf(message)}`;
  const reply = await answer(message).catch((error: Error) => {
    if (error instanceof ReplyError) return error.toReply();
    if (callerIsGone(message)) return undefined;
    log?.(`${call} failed: ${error.stack}`);
    return json(500, { statusCode: '500', message: 'Internal error of the local Supabase stand-in' });
  });
  if (!reply || callerIsGone(message)) {
    if (typeof reply?.body === 'object') reply.body.destroy();
    return;
  }
  await send(message, response, reply).catch((error: Error) => {
    log?.(`${call}: the answer was cut off: ${error.message}`);
    response.destroy();
  });
}

function callerIsGone(message: IncomingMessage): boolean {
  return message.destroyed && !message.complete;
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
}

/** Without the query string, which may hold a token. */
function pathOf(message: IncomingMessage): string {
  return splitOnce(message.url ?? '/', '?')[0]!;
}

function splitOnce(text: string, separator: string): string[] {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + separator.length)];
}

function after(text: string, prefix: string): string | undefined {
  return text.startsWith(prefix) ? text.slice(prefix.length) : undefined;
}
