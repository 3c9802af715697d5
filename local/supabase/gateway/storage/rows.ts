import type { Query } from '../database.ts';
import { keyExists, noSuchBucket } from './errors.ts';
import type { ObjectName } from './names.ts';

export interface BucketRow {
  id: string;
  name: string;
  public: boolean;
  file_size_limit: number | null;
  allowed_mime_types: string[] | null;
  created_at: string;
  updated_at: string;
}

export interface ObjectMetadata {
  eTag: string;
  size: number;
  mimetype: string;
  cacheControl: string;
  lastModified: string;
  contentLength: number;
  httpStatusCode: number;
}

export interface ObjectRow {
  id: string;
  bucket_id: string;
  name: string;
  version: string;
  metadata: ObjectMetadata;
  user_metadata: Record<string, unknown> | null;
  created_at: string;
  updated_at: string;
  last_accessed_at: string;
}

/** What an upload writes into `storage.objects`. */
export interface NewObject extends ObjectName {
  version: string;
  metadata: ObjectMetadata;
  userMetadata: unknown;
  at: Date;
}

// As JSON, so that times come as PostgREST and Storage write them.
const OBJECT = `to_jsonb(o) as row`;

export async function findBucket(query: Query, id: string): Promise<BucketRow> {
  const { rows } = await query('select to_jsonb(b) as row from storage.buckets b where b.id = $1', [id]);
  if (rows.length === 0) throw noSuchBucket();
  return rows[0].row;
}

export async function findObject(query: Query, { bucket, key }: ObjectName): Promise<ObjectRow | undefined> {
  const { rows } = await query(
    `select ${OBJECT} from storage.objects o where o.bucket_id = $1 and o.name = $2`,
    [bucket, key],
  );
  return rows[0]?.row;
}

/** Which of the keys exist. */
export async function findKeys(query: Query, bucket: string, keys: string[]): Promise<Set<string>> {
  const { rows } = await query(
    'select o.name from storage.objects o where o.bucket_id = $1 and o.name = any($2::text[])',
    [bucket, keys],
  );
  return new Set(rows.map((row: { name: string }) => row.name));
}

/** Writers of one object take turns until their transactions end, so that exactly one old version is replaced by each. */
export async function lockObject(query: Query, { bucket, key }: ObjectName): Promise<void> {
  await query(`select pg_advisory_xact_lock(hashtextextended($1, 0))`, [`storage:${bucket}/${key}`]);
}

/** Puts a version in place. Returns the object's id and the version that it replaced. */
export async function putObject(
  query: Query,
  object: NewObject,
  upsert: boolean,
): Promise<{ id: string; replaced: string | undefined }> {
  await lockObject(query, object);
  const old = await findObject(query, object);
  if (old && !upsert) throw keyExists();
  const values = [
    object.bucket,
    object.key,
    object.version,
    JSON.stringify(object.metadata),
    object.userMetadata === undefined ? null : JSON.stringify(object.userMetadata),
    object.at,
  ];
  const { rows } = await query(
    `insert into storage.objects as o
       (bucket_id, name, version, metadata, user_metadata, created_at, updated_at, last_accessed_at)
     values ($1, $2, $3, $4, $5, $6, $6, $6)
     on conflict (bucket_id, name) do update set version = excluded.version, metadata = excluded.metadata,
       user_metadata = excluded.user_metadata, updated_at = excluded.updated_at
     returning o.id`,
    values,
  );
  return { id: rows[0].id, replaced: old?.version };
}

export async function deleteObjects(query: Query, bucket: string, keys: string[]): Promise<ObjectRow[]> {
  const { rows } = await query(
    `delete from storage.objects o where o.bucket_id = $1 and o.name = any($2::text[]) returning ${OBJECT}`,
    [bucket, keys],
  );
  return rows.map((row: { row: ObjectRow }) => row.row);
}
