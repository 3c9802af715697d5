import { once } from 'node:events';
import http from 'node:http';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { PackObject } from '../../../controller/agents/wire.ts';
import { connect, type EgressProxy } from './connect.ts';
import { sha256 as sha256Of } from './hashes.ts';

const IDLE_TIMEOUT_MS = 30_000;
const TOTAL_TIMEOUT_MS = 600_000;
/** Held in memory. An object of a pack is half as large; the manifest of a million files is about this. */
const MAX_OBJECT_BYTES = 64 << 20;
const MAX_ERROR_BYTES = 16 << 10;

/** The storage's answer was not the one hoped for. Its message holds no URL: a signed one is a secret. */
export class StorageError extends Error {
  override readonly name = 'StorageError';
  readonly status: number;
  /** The storage's own word, e.g. `KeyAlreadyExists`. */
  readonly reason: string;

  constructor(status: number, reason: string) {
    super(`the storage answered ${status}${reason === '' ? '' : ` ${reason}`}`);
    this.status = status;
    this.reason = reason;
  }
}

export interface Body {
  bytes: number;
  open: () => Readable;
}

/** PUT of a whole object. An object that is there already has the same content, as its name is the hash of it. */
export async function put(url: string, body: Body, proxy: EgressProxy | undefined): Promise<void> {
  const headers = { 'content-type': 'application/octet-stream', 'content-length': body.bytes };
  const response = await send(url, 'PUT', headers, body, proxy);
  try {
    if (isOk(response)) return;
    const error = await refusal(response);
    if (!/duplicate|already ?exists/i.test(error.reason)) throw error;
  } finally {
    response.destroy();
  }
}

/** GET of an object, checked to be the very one that was asked for. */
export async function get(
  url: string,
  { sha256, bytes }: PackObject,
  proxy: EgressProxy | undefined,
): Promise<Buffer> {
  if (bytes > MAX_OBJECT_BYTES) throw new Error(`object ${sha256} has ${bytes} bytes`);
  const response = await send(url, 'GET', {}, undefined, proxy);
  try {
    if (!isOk(response)) throw await refusal(response);
    const pieces: Buffer[] = [];
    let got = 0;
    for await (const piece of response as AsyncIterable<Buffer>) {
      got += piece.length;
      if (got > bytes) break;
      pieces.push(piece);
    }
    if (got !== bytes)
      throw new Error(`object ${sha256} has ${got > bytes ? 'more' : 'less'} than ${bytes} bytes`);
    const object = Buffer.concat(pieces);
    if (sha256Of(object) !== sha256) throw new Error(`object ${sha256} has another hash`);
    return object;
  } finally {
    response.destroy();
  }
}

/** Once more, where the storage or the way to it failed and not the request. */
export async function twice<T>(attempt: () => Promise<T>): Promise<T> {
  try {
    return await attempt();
  } catch (error) {
    if (error instanceof StorageError && error.status < 500 && error.status !== 429) throw error;
    return await attempt();
  }
}

async function send(
  address: string,
  method: string,
  headers: http.OutgoingHttpHeaders,
  body: Body | undefined,
  proxy: EgressProxy | undefined,
): Promise<http.IncomingMessage> {
  const url = new URL(address);
  const socket = await connect(url, proxy);
  socket.setTimeout(IDLE_TIMEOUT_MS, () =>
    socket.destroy(new Error(`the storage was silent for ${IDLE_TIMEOUT_MS} ms`)),
  );
  const request = http.request({
    method,
    path: url.pathname + url.search,
    headers: { host: url.host, connection: 'close', ...headers },
    createConnection: () => socket,
    signal: AbortSignal.timeout(TOTAL_TIMEOUT_MS),
  });
  const answered = once(request, 'response') as Promise<[http.IncomingMessage]>;
  if (body === undefined) request.end();
  // An early answer, such as a refusal, breaks the body off; the answer is then what counts.
  else pipeline(body.open(), request).catch(() => {});
  const [response] = await answered;
  return response;
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
    const { statusCode, error, code } = JSON.parse(text) as Record<string, unknown>;
    return new StorageError(
      Number(statusCode) || response.statusCode!,
      [error, code].filter(Boolean).join(' '),
    );
  } catch {
    return new StorageError(response.statusCode!, '');
  }
}
