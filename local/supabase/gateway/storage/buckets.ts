import { json, NotSupported, type Reply } from '../http.ts';
import { jsonBody, type StorageContext, type StorageRequest, textField } from './context.ts';
import { invalidRequest, StorageError } from './errors.ts';
import { checkBucketName, decode, parseSizeLimit } from './names.ts';
import { type BucketRow, findBucket } from './rows.ts';

export async function createBucket(
  { message, role }: StorageRequest,
  context: StorageContext,
): Promise<Reply> {
  const body = await jsonBody(message);
  const name = checkBucketName(textField(body, 'name'));
  const id = checkBucketName(typeof body.id === 'string' ? body.id : name);
  if (body.public) throw new NotSupported('public buckets');
  if (body.type !== undefined && body.type !== 'STANDARD')
    throw new NotSupported(`buckets of type ${body.type}`);
  const limit = parseSizeLimit(body.file_size_limit);
  const types = body.allowed_mime_types ?? null;
  if (types !== null && !(Array.isArray(types) && types.every((type) => typeof type === 'string'))) {
    throw invalidRequest('body/allowed_mime_types must be array of string');
  }
  const { rowCount } = await context.database.transaction({ role }, (query) =>
    query(
      `insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types, created_at, updated_at)
       values ($1, $2, false, $3, $4, $5, $5) on conflict do nothing`,
      [id, name, limit, types, context.now()],
    ),
  );
  if (rowCount === 0)
    throw new StorageError(409, 'BucketAlreadyExists', 'The resource already exists', 'Duplicate');
  return json(200, { name: id });
}

export async function getBucket(
  { path, role }: StorageRequest,
  { database }: StorageContext,
): Promise<Reply> {
  const bucket = await database.transaction({ role, readOnly: true }, (query) =>
    findBucket(query, checkBucketName(decode(path))),
  );
  return json(200, bucketAnswer(bucket));
}

export async function listBuckets(
  { role, params }: StorageRequest,
  { database }: StorageContext,
): Promise<Reply> {
  if (params.size > 0)
    throw new NotSupported(`options of the list of buckets: ${[...params.keys()].join(', ')}`);
  const { rows } = await database.transaction({ role, readOnly: true }, (query) =>
    query('select to_jsonb(b) as row from storage.buckets b order by b.name'),
  );
  return json(
    200,
    rows.map(({ row }: { row: BucketRow }) => bucketAnswer(row)),
  );
}

function bucketAnswer(row: BucketRow) {
  const { id, name, file_size_limit, allowed_mime_types, created_at, updated_at } = row;
  return {
    id,
    name,
    owner: '',
    public: row.public,
    type: 'STANDARD',
    file_size_limit,
    allowed_mime_types,
    created_at,
    updated_at,
  };
}
