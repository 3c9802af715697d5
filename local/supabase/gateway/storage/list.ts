import { json, type Reply } from '../http.ts';
import { jsonBody, type StorageContext, type StorageRequest } from './context.ts';
import { invalidRequest } from './errors.ts';
import { checkBucketName, decode } from './names.ts';

const SORT_COLUMNS = ['name', 'updated_at', 'created_at', 'last_accessed_at'];

/** One level of a bucket: folders first (all fields but the name null), then objects. */
const LIST = (column: string, direction: 'asc' | 'desc') => `
  with below as (
    select substr(o.name, length($2) + 1) as rest, o.*
    from storage.objects o where o.bucket_id = $1 and starts_with(o.name, $2)
  ), matching as (
    select * from below where starts_with(lower(rest), lower($3))
  ), entries as (
    select split_part(rest, '/', 1) as entry, true as folder, null::uuid as id, null::timestamptz as updated_at,
           null::timestamptz as created_at, null::timestamptz as last_accessed_at, null::jsonb as metadata
    from matching where strpos(rest, '/') > 0 group by 1
    union all
    select rest, false, id, updated_at, created_at, last_accessed_at, metadata
    from matching where strpos(rest, '/') = 0
  )
  select jsonb_build_object('name', entry, 'id', id, 'updated_at', updated_at, 'created_at', created_at,
                            'last_accessed_at', last_accessed_at, 'metadata', metadata) as item
  from entries order by folder desc, ${column === 'name' ? 'entry' : column} ${direction}, entry
  limit $4 offset $5`;

/** `POST /object/list/<bucket>`: not recursive, as storage-js `list()` asks for it. */
export async function listObjects(
  { message, path, role }: StorageRequest,
  context: StorageContext,
): Promise<Reply> {
  const bucket = checkBucketName(decode(path));
  const body = await jsonBody(message);
  const { prefix = '', search = '', limit = 100, offset = 0 } = body;
  if (typeof prefix !== 'string' || typeof search !== 'string')
    throw invalidRequest('body/prefix must be string');
  const { column, direction } = sortOf(body.sortBy);
  const folder = prefix === '' || prefix.endsWith('/') ? prefix : `${prefix}/`;
  const { rows } = await context.database.transaction({ role, readOnly: true }, (query) =>
    query(LIST(column, direction), [bucket, folder, search, count('limit', limit), count('offset', offset)]),
  );
  return json(
    200,
    rows.map((row: { item: unknown }) => row.item),
  );
}

/** From closed sets, because both become part of the statement's text. */
function sortOf(value: unknown): { column: string; direction: 'asc' | 'desc' } {
  const { column = 'name', order = 'asc' } = (value ?? {}) as { column?: string; order?: string };
  if (!SORT_COLUMNS.includes(column))
    throw invalidRequest(`body/sortBy/column must be one of ${SORT_COLUMNS.join(', ')}`);
  if (order !== 'asc' && order !== 'desc') throw invalidRequest('body/sortBy/order must be asc or desc');
  return { column, direction: order };
}

function count(name: string, value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw invalidRequest(`body/${name} must be integer >= 0`);
}
