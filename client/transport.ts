import http from 'node:http';
import https from 'node:https';
import { pipeline, type Readable } from 'node:stream';
import { Deadline } from './deadline.ts';
import { errorFromAnswer, errorFromSocket, MobVibeError } from './errors.ts';
import { isCounted, isPassing, MAX_ATTEMPTS, pauseMs } from './retry.ts';

/** Limits of one call, accepted by every method of the SDK. */
export interface CallOptions {
  /** For the whole call with its retries, milliseconds. */
  timeoutMs?: number;
  /** Gives the call up. */
  signal?: AbortSignal;
}

export interface ApiRequest extends CallOptions {
  method: string;
  /** From `/v1`, already encoded. */
  path: string;
  query?: Record<string, string | number | undefined>;
  /** Sent as JSON. */
  json?: unknown;
  /** Sent as it is. */
  body?: Uint8Array | Readable;
  accept?: string;
  /** Of a longer undertaking that this request is part of; then `timeoutMs` and `signal` are not looked at. */
  deadline?: Deadline;
  /** True where it does no harm when the request arrives twice. Only such requests are retried. */
  repeatable: boolean;
}

const MAX_PROBLEM_BYTES = 64 * 1024;

/**
 * Speaks HTTP with the controller. On node:http with kept connections: a small request costs 50 µs so, and 145 µs through
 * fetch (both ends on one core), and a broken answer must be told from a short one.
 */
export class Transport {
  readonly #url: URL;
  readonly #key: string;
  readonly #timeoutMs: number;
  readonly #client: typeof http | typeof https;
  readonly #agent: http.Agent;

  constructor(url: URL, key: string, timeoutMs: number) {
    this.#url = url;
    this.#key = key;
    this.#timeoutMs = timeoutMs;
    this.#client = url.protocol === 'https:' ? https : http;
    // The newest free connection first: the old ones may be about to be closed by the other side.
    this.#agent = new this.#client.Agent({ keepAlive: true, scheduling: 'lifo', timeout: 0 });
  }

  /** Ends all connections. */
  close(): void {
    this.#agent.destroy();
  }

  /** The answer's JSON. */
  async json<T>(request: ApiRequest): Promise<T> {
    const text = await this.text(request);
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw new MobVibeError('invalid_answer', 'unknown', 'The answer is not JSON', { cause });
    }
  }

  async text(request: ApiRequest): Promise<string> {
    return (await this.bytes(request)).toString();
  }

  /** The whole answer. The deadline holds to its last byte. */
  bytes(request: ApiRequest): Promise<Buffer> {
    return this.#attempt(request, async (deadline) => {
      return readAll(await this.#open(request, deadline));
    });
  }

  /** The answer as a stream, which fails with a `MobVibeError`. The deadline holds to its last byte. */
  stream(request: ApiRequest): Promise<http.IncomingMessage> {
    return this.#attempt(request, (deadline) => this.#open(request, deadline));
  }

  async #open(request: ApiRequest, deadline: Deadline): Promise<http.IncomingMessage> {
    const response = await this.#send(request, deadline);
    const unwatch = deadline.watch((reason) => response.destroy(reason));
    response.once('end', unwatch).once('close', unwatch);
    const destroy = response._destroy.bind(response);
    response._destroy = (error, done) => destroy(error && this.explain(error), done);
    return response;
  }

  /** Makes a `MobVibeError` of whatever broke a connection. */
  explain(error: unknown): MobVibeError {
    return error instanceof MobVibeError
      ? error
      : errorFromSocket(error as NodeJS.ErrnoException, this.#url.origin);
  }

  async #attempt<T>(request: ApiRequest, once: (deadline: Deadline) => Promise<T>): Promise<T> {
    const deadline =
      request.deadline ??
      new Deadline(`${request.method} ${request.path}`, request.timeoutMs ?? this.#timeoutMs, request.signal);
    for (let attempt = 1, counted = 1; ; attempt++) {
      deadline.check();
      try {
        return await once(deadline);
      } catch (error) {
        if (!request.repeatable || !(error instanceof MobVibeError) || !isPassing(error)) throw error;
        if (isCounted(error) && counted++ >= MAX_ATTEMPTS) throw error;
        const ms = pauseMs(error, attempt);
        // Whoever would only wait for the deadline is better told why.
        if (error.retryAfterMs !== undefined && ms >= deadline.leftMs) throw error;
        await deadline.pause(ms);
      }
    }
  }

  #send(request: ApiRequest, deadline: Deadline): Promise<http.IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>();
    const body = request.json === undefined ? request.body : Buffer.from(JSON.stringify(request.json));
    const outgoing = this.#client.request(this.#url, {
      agent: this.#agent,
      method: request.method,
      path: this.#path(request),
      headers: this.#headers(request, body),
    });
    const unwatch = deadline.watch((reason) => outgoing.destroy(reason));
    outgoing.on('error', (error) => {
      unwatch();
      reject(this.explain(error));
    });
    outgoing.on('response', (response) => {
      unwatch();
      if (response.statusCode! < 400) return resolve(response);
      const stop = deadline.watch((reason) => response.destroy(reason));
      readAll(response, MAX_PROBLEM_BYTES)
        .then((text) =>
          reject(errorFromAnswer(response.statusCode!, text.toString(), response.headers['retry-after'])),
        )
        .catch((error) => reject(this.explain(error)))
        .finally(() => {
          stop();
          // An answer that came before the whole body was sent: the rest is of no use to anyone.
          if (!outgoing.writableFinished) outgoing.destroy();
        });
    });
    if (body === undefined || body instanceof Uint8Array) outgoing.end(body);
    else sendStream(body, outgoing, reject);
    return promise;
  }

  #path({ path, query = {} }: ApiRequest): string {
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    if (given.length === 0) return this.#prefix + path;
    const search = new URLSearchParams(given.map(([name, value]): [string, string] => [name, String(value)]));
    return `${this.#prefix}${path}?${search}`;
  }

  get #prefix(): string {
    return this.#url.pathname.replace(/\/$/, '');
  }

  #headers(request: ApiRequest, body: Uint8Array | Readable | undefined): http.OutgoingHttpHeaders {
    const headers: http.OutgoingHttpHeaders = { authorization: `Bearer ${this.#key}` };
    if (request.accept !== undefined) headers.accept = request.accept;
    if (body === undefined) return headers;
    headers['content-type'] = request.json === undefined ? 'application/octet-stream' : 'application/json';
    if (body instanceof Uint8Array) headers['content-length'] = body.length;
    return headers;
  }
}

/** Sends the caller's stream. When that itself fails, the caller gets its own error back. */
function sendStream(body: Readable, outgoing: http.ClientRequest, reject: (error: Error) => void): void {
  body.once('error', (error) => reject(error));
  // The request's own errors are told by its 'error' event.
  pipeline(body, outgoing, () => {});
}

async function readAll(response: http.IncomingMessage, limit = Number.POSITIVE_INFINITY): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response) {
    length += chunk.length;
    if (length > limit) break;
    chunks.push(chunk);
  }
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
}
