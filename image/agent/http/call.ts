import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import type { Duplex } from 'node:stream';
import { LANE_HEADER } from '../../../controller/agents/wire.ts';
import { Fault, toFault } from '../fault.ts';
import { log } from '../log.ts';
import type { OpenLane } from '../tunnel/lane.ts';

const NGHTTP2_NO_ERROR = 0;
const NGHTTP2_INTERNAL_ERROR = 2;
const MAX_JSON_BYTES = 4 << 20;

/** One request of the controller and the means to answer it. */
export class Call {
  readonly stream: ServerHttp2Stream;
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  /** The part of the path that the route left open. */
  readonly id: string;
  readonly #announcedBytes: string | undefined;
  readonly #laneId: string | undefined;
  readonly #openLane: OpenLane;
  readonly #sealed: AbortSignal;

  constructor(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    target: Target,
    openLane: OpenLane,
    sealed: AbortSignal,
  ) {
    this.stream = stream;
    this.method = String(headers[':method']);
    this.path = target.path;
    this.query = target.query;
    this.id = target.id;
    this.#announcedBytes = headers['content-length'];
    this.#laneId = headers[LANE_HEADER]?.toString();
    this.#openLane = openLane;
    this.#sealed = sealed;
  }

  /** A query parameter that counts bytes, e.g. `offset`. */
  count(name: string): number | undefined {
    const text = this.query.get(name);
    if (text === null) return undefined;
    const value = Number(text);
    if (text === '' || !Number.isSafeInteger(value) || value < 0) {
      throw new Fault('invalid_request', `${name} must be a whole number of bytes, it is "${text}"`, {
        field: name,
      });
    }
    return value;
  }

  flag(name: string): boolean {
    const text = this.query.get(name);
    return text !== null && text !== '0' && text !== 'false';
  }

  /** Dials the lane that the caller offers; undefined where it offers none. */
  async lane(): Promise<Duplex | undefined> {
    return this.#laneId === undefined ? undefined : this.#openLane(this.#laneId, this.stream);
  }

  /**
   * The bytes of the body, which are for a change: a file or input. Throws at their end when they are not all that the caller meant to send,
   * and at once when the sandbox is sealed, also while it waits for more.
   */
  body(): AsyncGenerator<Buffer> {
    return whileOpen(this.#bytes(), this.#sealed);
  }

  async *#bytes(): AsyncGenerator<Buffer> {
    let bytes = 0;
    // Giving up on the body leaves the stream as it is, so that the error can still be answered.
    const parts = (await this.lane()) ?? this.stream.iterator({ destroyOnReturn: false });
    for await (const part of parts as AsyncIterable<Buffer>) {
      bytes += part.length;
      yield part;
    }
    if (this.#announcedBytes !== undefined && Number(this.#announcedBytes) !== bytes) throw cutOff();
    this.checkNotReset();
  }

  /** Throws when the caller took the request back. To a reader of the body that looks like its end. */
  checkNotReset(): void {
    // Before the answer only a reset closes the stream.
    if (this.stream.closed || this.stream.destroyed) throw cutOff();
  }

  /** The whole body as a JSON object. */
  async json(): Promise<Record<string, unknown>> {
    const parts: Buffer[] = [];
    let bytes = 0;
    for await (const part of this.#bytes()) {
      bytes += part.length;
      if (bytes > MAX_JSON_BYTES) {
        throw new Fault('body_too_large', `The body has more than ${MAX_JSON_BYTES} bytes`);
      }
      parts.push(part);
    }
    let value: unknown;
    try {
      value = JSON.parse((parts.length === 1 ? parts[0]! : Buffer.concat(parts)).toString('utf8'));
    } catch {
      throw new Fault('invalid_json', 'The body is not JSON');
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new Fault('invalid_json', 'The body is not a JSON object');
    }
    return value as Record<string, unknown>;
  }

  reply(status: number, body?: unknown): void {
    if (this.stream.destroyed) return;
    if (body === undefined) {
      this.stream.respond({ ':status': status }, { endStream: true });
      return;
    }
    this.stream.respond({ ':status': status, 'content-type': 'application/json' });
    this.stream.end(JSON.stringify(body));
  }

  /** Answers with the error, or cuts the answer off where it has already begun. */
  fail(error: unknown): void {
    const fault = toFault(error);
    const { stream } = this;
    if (stream.destroyed) return;
    if (fault.code === 'internal' || stream.headersSent) {
      log('error', 'request failed', { path: this.path, code: fault.code, detail: fault.detail });
    }
    if (stream.headersSent) {
      stream.close(NGHTTP2_INTERNAL_ERROR);
      return;
    }
    this.reply(fault.status, fault.toWire());
    // The rest of a body that nobody will read would use up the connection's window.
    if (!stream.readableEnded) stream.once('finish', () => stream.close(NGHTTP2_NO_ERROR));
  }
}

/** Passes parts on until the signal comes, with whose reason it fails then, whatever it was waiting for. */
async function* whileOpen(parts: AsyncGenerator<Buffer>, signal: AbortSignal): AsyncGenerator<Buffer> {
  let giveUp: (reason: unknown) => void = () => {};
  const close = () => giveUp(signal.reason);
  signal.addEventListener('abort', close);
  try {
    for (;;) {
      signal.throwIfAborted();
      const part = await new Promise<IteratorResult<Buffer>>((resolve, reject) => {
        giveUp = reject;
        parts.next().then(resolve, reject);
      });
      if (part.done) return;
      yield part.value;
    }
  } finally {
    signal.removeEventListener('abort', close);
    // Where it still waits for a part, this is done when that comes, or nothing more does.
    parts.return(undefined).catch(() => {});
  }
}

function cutOff(): Fault {
  return new Fault('invalid_request', 'The request was cut off');
}

export interface Target {
  path: string;
  query: URLSearchParams;
  id: string;
}
