import { header, json, type Reply } from '../http.ts';
import type { StorageContext, StorageRequest } from './context.ts';
import { noSuchKey, StorageError } from './errors.ts';
import type { ObjectName } from './names.ts';
import { findObject, type ObjectRow } from './rows.ts';

/** An upsert may remove the version between the look at the row and the opening of its file. */
const TRIES = 3;

export async function download(
  { message, role, params }: StorageRequest,
  name: ObjectName,
  { database, blobs }: StorageContext,
): Promise<Reply> {
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const row = await database.transaction({ role, readOnly: true }, (query) => findObject(query, name));
    if (!row) throw noSuchKey();
    const { size, eTag } = row.metadata;
    if (header(message, 'if-none-match') === eTag) return { status: 304, headers: { etag: eTag } };
    const range = parseRange(header(message, 'range'), size);
    const { start, end } = range ?? { start: 0, end: size - 1 };
    const headers = {
      ...objectHeaders(row),
      ...disposition(params, name),
      'content-length': end - start + 1,
    };
    const partial = range && { 'content-range': `bytes ${start}-${end}/${size}` };
    if (size === 0) return { status: 200, headers, body: '' };
    const body = await blobs.read(row.version, start, end);
    if (body) return { status: range ? 206 : 200, headers: { ...headers, ...partial }, body };
  }
  throw new StorageError(500, 'InternalError', `The bytes of ${name.bucket}/${name.key} are missing`);
}

export async function info(
  { role }: StorageRequest,
  name: ObjectName,
  { database }: StorageContext,
): Promise<Reply> {
  const row = await database.transaction({ role, readOnly: true }, (query) => findObject(query, name));
  if (!row) throw noSuchKey();
  return json(200, {
    id: row.id,
    name: row.name,
    version: row.version,
    bucket_id: row.bucket_id,
    size: row.metadata.size,
    content_type: row.metadata.mimetype,
    cache_control: row.metadata.cacheControl,
    etag: row.metadata.eTag,
    metadata: row.user_metadata ?? {},
    last_modified: row.metadata.lastModified,
    created_at: row.created_at,
  });
}

function objectHeaders({ metadata }: ObjectRow): Record<string, string> {
  return {
    'content-type': metadata.mimetype,
    'cache-control': metadata.cacheControl,
    etag: metadata.eTag,
    'last-modified': new Date(metadata.lastModified).toUTCString(),
    'accept-ranges': 'bytes',
  };
}

/** `?download` or `?download=name`: a browser saves it instead of showing it. */
function disposition(params: URLSearchParams, { key }: ObjectName): Record<string, string> {
  const asked = params.get('download');
  if (asked === null) return {};
  const name = encodeURIComponent(asked || key.slice(key.lastIndexOf('/') + 1));
  return { 'content-disposition': `attachment; filename="${name}"; filename*=UTF-8''${name}` };
}

/** One byte range. `undefined`: none, or a form that a server may ignore (RFC 9110, 14.2). */
export function parseRange(
  value: string | undefined,
  size: number,
): { start: number; end: number } | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(value ?? '');
  if (!match || (match[1] === '' && match[2] === '')) return undefined;
  const [, first, last] = match;
  const start = first === '' ? Math.max(0, size - Number(last)) : Number(first);
  const end = first === '' || last === '' ? size - 1 : Math.min(Number(last), size - 1);
  if (start > end)
    throw new StorageError(416, 'InvalidRange', 'The requested range is not satisfiable', 'invalid_range');
  return { start, end };
}
