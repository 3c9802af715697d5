import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import type { Role } from '../access.ts';
import { header, NotSupported, readBody } from '../http.ts';
import type { StoredBytes } from './blobs.ts';
import type { StorageContext } from './context.ts';
import { invalidRequest, keyExists, StorageError, tooLarge } from './errors.ts';
import type { ObjectName } from './names.ts';
import { type BucketRow, findBucket, findObject, type NewObject, putObject } from './rows.ts';

/** A form with a file in it is held in memory, so that its size is bounded here. Clients that send bytes raw are streamed. */
const MAX_FORM_BYTES = 64 * 1024 * 1024;

interface Payload {
  bytes: Readable;
  contentType: string;
  cacheControl: string;
  userMetadata: unknown;
}

export interface Upload {
  name: ObjectName;
  role: Role;
  upsert: boolean;
}

/**
 * Takes the body as the object's new version. The bytes are complete and on disk before the row names them; whatever fails on
 * the way leaves no object, no row and no file.
 */
export async function receiveUpload(
  message: IncomingMessage,
  { name, role, upsert }: Upload,
  context: StorageContext,
): Promise<{ id: string }> {
  const { database, blobs } = context;
  const bucket = await database.transaction({ role }, async (query) => {
    const found = await findBucket(query, name.bucket);
    if (!upsert && (await findObject(query, name))) throw keyExists();
    return found;
  });
  const maxBytes = Math.min(bucket.file_size_limit ?? Number.POSITIVE_INFINITY, context.maxObjectBytes);
  const payload = await payloadOf(message, maxBytes);
  checkMimeType(payload.contentType, bucket);

  const blob = await blobs.write(payload.bytes, maxBytes);
  let done: { id: string; replaced: string | undefined };
  try {
    const object = newObject(name, blob, payload, context.now());
    done = await database.transaction({ role }, (query) => putObject(query, object, upsert));
  } catch (error) {
    await blobs.remove([blob.version]);
    throw error;
  }
  if (done.replaced) await blobs.remove([done.replaced]);
  return { id: done.id };
}

function newObject(name: ObjectName, blob: StoredBytes, payload: Payload, at: Date): NewObject {
  return {
    ...name,
    version: blob.version,
    metadata: {
      eTag: `"${blob.md5}"`,
      size: blob.size,
      mimetype: payload.contentType,
      cacheControl: payload.cacheControl,
      lastModified: at.toISOString(),
      contentLength: blob.size,
      httpStatusCode: 200,
    },
    userMetadata: payload.userMetadata,
    at,
  };
}

async function payloadOf(message: IncomingMessage, maxBytes: number): Promise<Payload> {
  const contentType = header(message, 'content-type') ?? 'application/octet-stream';
  if (/^multipart\/form-data\b/i.test(contentType)) return await formPayload(message, contentType);
  // Known beforehand: refused without reading it.
  if (Number(header(message, 'content-length') ?? 0) > maxBytes) throw tooLarge();
  const metadata = header(message, 'x-metadata');
  return {
    bytes: message,
    contentType,
    cacheControl: header(message, 'cache-control') ?? 'no-cache',
    userMetadata:
      metadata === undefined ? undefined : parseMetadata(Buffer.from(metadata, 'base64').toString('utf8')),
  };
}

/** A `Blob` or `File` given to storage-js: fields `cacheControl` and `metadata`, and the file under an empty name. */
async function formPayload(message: IncomingMessage, contentType: string): Promise<Payload> {
  const body = await readBody(message, MAX_FORM_BYTES);
  if (body === undefined) {
    throw new NotSupported(
      `a form of more than ${MAX_FORM_BYTES} bytes: upload a Buffer or a stream instead of a Blob`,
    );
  }
  const form = await new Response(new Uint8Array(body), { headers: { 'content-type': contentType } })
    .formData()
    .catch(() => {
      throw invalidRequest('The body is not a valid form');
    });
  const file = [...form.values()].find((value) => typeof value !== 'string');
  if (!file) throw new StorageError(400, 'InvalidRequest', 'No content provided');
  const text = (name: string) => {
    const value = form.get(name);
    return typeof value === 'string' ? value : undefined;
  };
  const seconds = text('cacheControl');
  const metadata = text('metadata');
  return {
    bytes: Readable.from([Buffer.from(await file.arrayBuffer())]),
    contentType: file.type || 'application/octet-stream',
    cacheControl: seconds === undefined ? 'no-cache' : `max-age=${seconds}`,
    userMetadata: metadata === undefined ? undefined : parseMetadata(metadata),
  };
}

function parseMetadata(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // As Supabase Storage does: metadata that can't be read is dropped.
  }
}

function checkMimeType(contentType: string, bucket: BucketRow): void {
  const type = contentType.split(';')[0]!.trim().toLowerCase();
  const allowed = bucket.allowed_mime_types;
  if (!allowed || allowed.length === 0) return;
  const fits = allowed.some((item) => item === '*/*' || item === type || item === `${type.split('/')[0]}/*`);
  if (!fits)
    throw new StorageError(415, 'InvalidMimeType', `mime type ${type} is not supported`, 'invalid_mime_type');
}
