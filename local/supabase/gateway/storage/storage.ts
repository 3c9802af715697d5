import type { IncomingMessage } from 'node:http';
import type { Role } from '../access.ts';
import { header, json, NotSupported, type Reply, ReplyError } from '../http.ts';
import { createBucket, getBucket, listBuckets } from './buckets.ts';
import type { StorageContext, StorageRequest } from './context.ts';
import { download, info } from './download.ts';
import { storageErrorOf } from './errors.ts';
import { listObjects } from './list.ts';
import { copyObject, moveObject, removeObject, removeObjects } from './manage.ts';
import { type ObjectName, parseObjectPath } from './names.ts';
import { checkToken, signDownloads, signUpload } from './signing.ts';
import { receiveUpload } from './upload.ts';

/** `open`: the token in the URL is the right to call, no key is asked for. */
type Call = { access: 'key' | 'open'; method: RegExp; path: RegExp; run: Run };
type Run = (request: StorageRequest, context: StorageContext) => Promise<Reply>;

/** First match wins. Group 1 of `path` is what the call gets as its path. */
const CALLS: Call[] = [
  { access: 'key', method: /^POST$/, path: /^bucket()$/, run: createBucket },
  { access: 'key', method: /^GET$/, path: /^bucket\/?()$/, run: listBuckets },
  { access: 'key', method: /^GET$/, path: /^bucket\/([^/]+)$/, run: getBucket },
  { access: 'key', method: /^POST$/, path: /^object\/upload\/sign\/(.+)$/, run: signUpload },
  { access: 'open', method: /^PUT$/, path: /^object\/upload\/sign\/(.+)$/, run: putSigned },
  { access: 'key', method: /^POST$/, path: /^object\/sign\/(.+)$/, run: signDownloads },
  { access: 'open', method: /^(GET|HEAD)$/, path: /^object\/sign\/(.+)$/, run: getSigned },
  { access: 'key', method: /^POST$/, path: /^object\/list\/([^/]+)$/, run: listObjects },
  { access: 'key', method: /^POST$/, path: /^object\/move()$/, run: moveObject },
  { access: 'key', method: /^POST$/, path: /^object\/copy()$/, run: copyObject },
  {
    access: 'key',
    method: /^(GET|HEAD)$/,
    path: /^object\/info\/(?:authenticated\/)?(.+)$/,
    run: onObject(info),
  },
  { access: 'key', method: /^(GET|HEAD)$/, path: /^object\/authenticated\/(.+)$/, run: onObject(download) },
];

/** Only after the calls above, whose names could also be the name of a bucket. */
const OBJECT_CALLS: Call[] = [
  { access: 'key', method: /^(GET|HEAD)$/, path: /^object\/([^/]+\/.+)$/, run: onObject(download) },
  { access: 'key', method: /^(POST|PUT)$/, path: /^object\/([^/]+\/.+)$/, run: upload },
  { access: 'key', method: /^DELETE$/, path: /^object\/([^/]+)$/, run: removeObjects },
  { access: 'key', method: /^DELETE$/, path: /^object\/([^/]+\/.+)$/, run: onObject(removeObject) },
];

/** First words after `object/` that name a call of Supabase Storage which is not supported here, not a bucket. */
const OTHER_CALLS = /^object\/(public|list-v2|sign|upload|info|list|move|copy|authenticated)(\/|$)/;

/** The Storage half. `roleOf` is asked for calls that need a key. */
export function createStorage(
  context: StorageContext,
): (message: IncomingMessage, path: string, params: URLSearchParams, roleOf: () => Role) => Promise<Reply> {
  return async (message, path, params, roleOf) => {
    const find = (calls: Call[]) =>
      calls.find((item) => item.method.test(message.method ?? '') && item.path.test(path));
    const call = find(CALLS) ?? (OTHER_CALLS.test(path) ? undefined : find(OBJECT_CALLS));
    // A signed URL carries its own right: what it may do was decided when it was signed.
    const role = call?.access === 'open' ? 'service_role' : roleOf();
    if (!call) throw new NotSupported(`${message.method} /storage/v1/${path}`);
    try {
      return await call.run({ message, role, path: call.path.exec(path)![1]!, params }, context);
    } catch (error) {
      if (error instanceof ReplyError) throw error;
      throw storageErrorOf(error) ?? error;
    }
  };
}

function onObject(
  run: (request: StorageRequest, name: ObjectName, context: StorageContext) => Promise<Reply>,
): Run {
  return (request, context) => run(request, parseObjectPath(request.path), context);
}

/** `PUT` (storage-js `update`) replaces what is there, and makes it when nothing is. */
async function upload({ message, role, path }: StorageRequest, context: StorageContext): Promise<Reply> {
  const name = parseObjectPath(path);
  const upsert = message.method === 'PUT' || header(message, 'x-upsert') === 'true';
  const { id } = await receiveUpload(message, { name, role, upsert }, context);
  return json(200, { Key: `${name.bucket}/${name.key}`, Id: id });
}

async function putSigned(
  { message, role, path, params }: StorageRequest,
  context: StorageContext,
): Promise<Reply> {
  const { name, claims } = checkToken(path, params, 'upload', context);
  await receiveUpload(message, { name, role, upsert: claims.upsert === true }, context);
  return json(200, { Key: `${name.bucket}/${name.key}` });
}

async function getSigned(request: StorageRequest, context: StorageContext): Promise<Reply> {
  const { name } = checkToken(request.path, request.params, undefined, context);
  return await download(request, name, context);
}
