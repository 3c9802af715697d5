import { once } from 'node:events';
import http from 'node:http';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { PackObject } from '../../../controller/agents/wire.ts';
import { connect, type EgressProxy } from './connect.ts';
import { sha256 as sha256Of } from './hashes.ts';

/** A try ends when so long no byte has moved, however long all of it takes. */
const IDLE_TIMEOUT_MS = 60_000;
/** Held in memory. An object of a pack is half as large; the manifest of a million files is about this. */
const MAX_OBJECT_BYTES = 64 << 20;
const MAX_ERROR_BYTES = 16 << 10;
const MAX_WORDS = 300;

/** How objects travel. */
export interface Way {
  proxy: EgressProxy | undefined;
  /** Default 60000. */
  idleMs?: number;
  /** Gives up when aborted. */
  signal?: AbortSignal;
  /** So many bytes more have moved. */
  progress?: (bytes: number) => void;
}

/** The storage's answer was not the one hoped for. Its message holds no URL: a signed one is a secret. */
export class StorageError extends Error {
  override readonly name = 'StorageError';
  readonly status: number;
  /** The storage's own words, e.g. `Duplicate KeyAlreadyExists`. */
  readonly reason: string;

  constructor(status: number, reason: string) {
    super(`the storage answered ${status}${reason === '' ? '' : ` ${reason}`}`);
    this.status = status;
    this.reason = reason;
  }
}

/** What the storage has is not the object that was asked for. */
export class DamagedObject extends Error {
  override readonly name = 'DamagedObject';
  readonly what: 'missing' | 'truncated' | 'wrong hash';

  constructor(what: DamagedObject['what'], detail: string) {
    super(`${what}: ${detail}`);
    this.what = what;
  }
}

export interface Body {
  bytes: number;
  open: () => Readable;
}

/** PUT of a whole object. An object that is there already has the same content, as its name is the hash of it. */
export async function put(url: string, body: Body, way: Way): Promise<void> {
  const headers = { 'content-type': 'application/octet-stream', 'content-length': body.bytes };
  const response = await send(url, 'PUT', headers, body, way);
  try {
    if (isOk(response)) return;
    const error = await refusal(response);
    if (!/duplicate|already ?exists/i.test(error.reason)) throw error;
  } finally {
    response.destroy();
  }
}

/** GET of an object, checked to be the very one that was asked for. */
export async function get(url: string, { sha256, bytes }: PackObject, way: Way): Promise<Buffer> {
  if (bytes > MAX_OBJECT_BYTES) throw new Error(`object ${sha256} has ${bytes} bytes`);
  const response = await send(url, 'GET', {}, undefined, way);
  try {
    if (!isOk(response)) {
      const error = await refusal(response);
      throw error.status === 404 && !/bucket/i.test(error.reason)
        ? new DamagedObject('missing', error.message)
        : error;
    }
    const pieces: Buffer[] = [];
    let got = 0;
    for await (const piece of response as AsyncIterable<Buffer>) {
      got += piece.length;
      way.progress?.(piece.length);
      if (got > bytes) throw new DamagedObject('wrong hash', `it has more than ${bytes} bytes`);
      pieces.push(piece);
    }
    if (got < bytes) throw new DamagedObject('truncated', `it has ${got} of ${bytes} bytes`);
    const object = Buffer.concat(pieces);
    if (sha256Of(object) !== sha256)
      throw new DamagedObject('wrong hash', 'its bytes are not what was saved');
    return object;
  } finally {
    response.destroy();
  }
}

async function send(
  address: string,
  method: string,
  headers: http.OutgoingHttpHeaders,
  body: Body | undefined,
  { proxy, idleMs = IDLE_TIMEOUT_MS, signal, progress }: Way,
): Promise<http.IncomingMessage> {
  const url = new URL(address);
  const socket = await connect(url, proxy);
  socket.setTimeout(idleMs, () => socket.destroy(new Error(`no byte moved for ${idleMs} ms`)));
  const request = http.request({
    method,
    path: url.pathname + url.search,
    headers: { host: url.host, connection: 'close', ...headers },
    createConnection: () => socket,
    ...(signal && { signal }),
  });
  const answered = once(request, 'response') as Promise<[http.IncomingMessage]>;
  if (body === undefined) request.end();
  // An early answer, such as a refusal, breaks the body off; the answer is then what counts.
  else pipeline(counted(body, progress), request).catch(() => {});
  const [response] = await answered;
  return response;
}

async function* counted({ bytes, open }: Body, progress: Way['progress']): AsyncGenerator<Buffer> {
  let sent = 0;
  for await (const piece of open() as AsyncIterable<Buffer>) {
    yield piece;
    sent += piece.length;
    progress?.(piece.length);
  }
  // The storage would wait for the rest.
  if (sent < bytes) throw new Error(`only ${sent} of ${bytes} bytes are there`);
}

function isOk({ statusCode = 0 }: http.IncomingMessage): boolean {
  return statusCode >= 200 && statusCode < 300;
}

/** Supabase answers most refusals with 400 and puts the status it means into the body. */
async function refusal(response: http.IncomingMessage): Promise<StorageError> {
  let text = '';
  for await (const part of response.setEncoding('utf8')) {
    text += part;
    if (text.length > MAX_ERROR_BYTES) break;
  }
  try {
    const { statusCode, error, code, message } = JSON.parse(text) as Record<string, unknown>;
    const words = [error, code, message].filter((word) => typeof word === 'string' && word !== '').join(' ');
    return new StorageError(
      Number(statusCode) || response.statusCode!,
      withoutUrls(words).slice(0, MAX_WORDS),
    );
  } catch {
    return new StorageError(response.statusCode!, '');
  }
}

function withoutUrls(words: string): string {
  return words.replace(/\S*(?:\/\/|token=)\S*/g, '…');
}
