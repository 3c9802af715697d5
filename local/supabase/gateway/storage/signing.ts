import { header, json, NotSupported, type Reply } from '../http.ts';
import { signToken, type UrlClaims, verifyToken } from '../jwt.ts';
import { jsonBody, type StorageContext, type StorageRequest, textListField } from './context.ts';
import { invalidJwt, invalidRequest, keyExists, noSuchKey, StorageError } from './errors.ts';
import { checkBucketName, checkKey, decode, type ObjectName, parseObjectPath } from './names.ts';
import { findBucket, findKeys, findObject } from './rows.ts';

/** Life of an upload URL on the hosted platform (Supabase docs, "createSignedUploadUrl"). */
export const UPLOAD_URL_SECONDS = 2 * 60 * 60;

/** `POST /object/sign/<bucket>/<key>` for one object, `POST /object/sign/<bucket>` for up to 1000. */
export async function signDownloads(request: StorageRequest, context: StorageContext): Promise<Reply> {
  const { role, path, message } = request;
  const body = await jsonBody(message);
  const seconds = body.expiresIn;
  if (typeof seconds !== 'number' || !Number.isSafeInteger(seconds) || seconds < 1) {
    throw invalidRequest('body/expiresIn must be >= 1');
  }
  if (body.transform !== undefined) throw new NotSupported('image transformations');
  const access = { role, readOnly: true };
  if (path.includes('/')) {
    const name = parseObjectPath(path);
    const found = await context.database.transaction(access, (query) => findObject(query, name));
    if (!found) throw noSuchKey();
    return json(200, { signedURL: downloadUrl(name, seconds, context) });
  }
  const bucket = checkBucketName(decode(path));
  const paths = textListField(body, 'paths');
  const known = await context.database.transaction(access, (query) => findKeys(query, bucket, paths));
  return json(
    200,
    paths.map((key) =>
      known.has(key)
        ? { error: null, path: key, signedURL: downloadUrl({ bucket, key }, seconds, context) }
        : {
            error: 'Either the object does not exist or you do not have access to it',
            path: key,
            signedURL: null,
          },
    ),
  );
}

/** `POST /object/upload/sign/<bucket>/<key>`: whoever has the URL may put this one object, once or with `x-upsert` again. */
export async function signUpload(request: StorageRequest, context: StorageContext): Promise<Reply> {
  const name = parseObjectPath(request.path);
  const upsert = header(request.message, 'x-upsert') === 'true';
  await context.database.transaction({ role: request.role, readOnly: true }, async (query) => {
    await findBucket(query, name.bucket);
    if (!upsert && (await findObject(query, name))) throw keyExists();
  });
  const token = sign(name, UPLOAD_URL_SECONDS, { scope: 'upload', upsert }, context);
  return json(200, { url: `/object/upload/sign/${encodePath(name)}?token=${token}`, token });
}

/** The object that a signed URL is for. Refuses a token that is not ours, has ended, or is for something else. */
export function checkToken(
  path: string,
  params: URLSearchParams,
  scope: UrlClaims['scope'],
  { jwtSecret, now }: StorageContext,
): { name: ObjectName; claims: UrlClaims } {
  const name = parseObjectPath(path);
  const token = params.get('token');
  if (!token) throw invalidRequest("querystring must have required property 'token'");
  const claims = verifyToken(token, jwtSecret);
  if (!claims) throw invalidJwt('signature verification failed');
  if (claims.exp * 1000 <= now().getTime()) throw invalidJwt('"exp" claim timestamp check failed');
  if (claims.url !== `${name.bucket}/${name.key}` || claims.scope !== scope) {
    throw new StorageError(400, 'InvalidSignature', 'Invalid signature');
  }
  return { name, claims };
}

function downloadUrl(name: ObjectName, seconds: number, context: StorageContext): string {
  return `/object/sign/${encodePath(name)}?token=${sign(name, seconds, {}, context)}`;
}

function sign(
  name: ObjectName,
  seconds: number,
  more: Pick<UrlClaims, 'scope' | 'upsert'>,
  { jwtSecret, now }: StorageContext,
): string {
  const iat = Math.floor(now().getTime() / 1000);
  const url = `${checkBucketName(name.bucket)}/${checkKey(name.key)}`;
  return signToken({ url, ...more, iat, exp: iat + seconds }, jwtSecret);
}

function encodePath({ bucket, key }: ObjectName): string {
  return [bucket, ...key.split('/')].map(encodeURIComponent).join('/');
}
