import { header, json, type Reply } from '../http.ts';
import { jsonBody, type StorageContext, type StorageRequest, textField, textListField } from './context.ts';
import { keyExists, noSuchKey } from './errors.ts';
import { checkBucketName, checkKey, decode, type ObjectName } from './names.ts';
import { deleteObjects, findBucket, findObject, lockObject, type ObjectRow, putObject } from './rows.ts';

/** `DELETE /object/<bucket>` with up to 1000 keys: the rows that were there. */
export async function removeObjects(
  { message, path, role }: StorageRequest,
  { database, blobs }: StorageContext,
): Promise<Reply> {
  const bucket = checkBucketName(decode(path));
  const keys = textListField(await jsonBody(message), 'prefixes');
  const removed = await database.transaction({ role }, (query) => deleteObjects(query, bucket, keys));
  await blobs.remove(removed.map((row) => row.version));
  return json(200, removed);
}

/** `DELETE /object/<bucket>/<key>`. */
export async function removeObject(
  { role }: StorageRequest,
  { bucket, key }: ObjectName,
  { database, blobs }: StorageContext,
): Promise<Reply> {
  const removed = await database.transaction({ role }, (query) => deleteObjects(query, bucket, [key]));
  if (removed.length === 0) throw noSuchKey();
  await blobs.remove(removed.map((row) => row.version));
  return json(200, { message: 'Successfully deleted' });
}

export async function moveObject(
  { message, role }: StorageRequest,
  { database, now }: StorageContext,
): Promise<Reply> {
  const { source, destination } = await namesOf(message);
  await database.transaction({ role }, async (query) => {
    await lockBoth(query, source, destination);
    await mustFind(query, source);
    await findBucket(query, destination.bucket);
    if (await findObject(query, destination)) throw keyExists();
    const { rowCount } = await query(
      `update storage.objects set bucket_id = $3, name = $4, updated_at = $5 where bucket_id = $1 and name = $2`,
      [source.bucket, source.key, destination.bucket, destination.key, now()],
    );
    if (rowCount === 0) throw noSuchKey(); // Removed just now.
  });
  return json(200, { message: 'Successfully moved' });
}

export async function copyObject({ message, role }: StorageRequest, context: StorageContext): Promise<Reply> {
  const { source, destination } = await namesOf(message);
  const { database, blobs, now } = context;
  const upsert = header(message, 'x-upsert') === 'true';
  let version: string | undefined;
  try {
    const { id, replaced } = await database.transaction({ role }, async (query) => {
      await lockBoth(query, source, destination);
      const row = await mustFind(query, source);
      await findBucket(query, destination.bucket);
      version = await blobs.copy(row.version);
      if (!version) throw noSuchKey(); // Removed just now.
      const at = now();
      const metadata = { ...row.metadata, lastModified: at.toISOString() };
      const copy = { ...destination, version, metadata, userMetadata: row.user_metadata ?? undefined, at };
      return await putObject(query, copy, upsert);
    });
    if (replaced) await blobs.remove([replaced]);
    return json(200, { Key: `${destination.bucket}/${destination.key}`, Id: id });
  } catch (error) {
    if (version) await blobs.remove([version]);
    throw error;
  }
}

async function namesOf(
  message: StorageRequest['message'],
): Promise<{ source: ObjectName; destination: ObjectName }> {
  const body = await jsonBody(message);
  const bucket = checkBucketName(textField(body, 'bucketId'));
  const target =
    typeof body.destinationBucket === 'string' ? checkBucketName(body.destinationBucket) : bucket;
  return {
    source: { bucket, key: checkKey(textField(body, 'sourceKey')) },
    destination: { bucket: target, key: checkKey(textField(body, 'destinationKey')) },
  };
}

/** In one order for all, so that two opposite moves can't block each other. */
async function lockBoth(
  query: Parameters<typeof lockObject>[0],
  a: ObjectName,
  b: ObjectName,
): Promise<void> {
  const path = ({ bucket, key }: ObjectName) => `${bucket}/${key}`;
  const [first, second] = path(a) < path(b) ? [a, b] : [b, a];
  await lockObject(query, first);
  await lockObject(query, second);
}

async function mustFind(query: Parameters<typeof findObject>[0], name: ObjectName): Promise<ObjectRow> {
  const row = await findObject(query, name);
  if (!row) throw noSuchKey();
  return row;
}
