import {
  type ClientHttp2Stream,
  constants,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
} from 'node:http2';
import { type Duplex, Readable } from 'node:stream';
import { CodedError, ERRORS, type ErrorCode } from '../errors.ts';
import { type AgentError, LANE_HEADER } from './wire.ts';

/** An answer larger than this is no JSON of ours. */
const MOST_JSON_BYTES = 16 * 1024 * 1024;

/** What the agent answered. Whoever gets it reads `body` to its end or destroys it. */
export class AgentReply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Ends where the agent ended it; a connection that broke before is a `CodedError` `agent_lost`. */
  readonly body: Readable;
  readonly #timeoutMs: number;

  /** `timeoutMs`: for the whole of a JSON answer, from its headers on. `lane`: where the agent has dialed one for this request. */
  constructor(
    stream: ClientHttp2Stream,
    headers: IncomingHttpHeaders & IncomingHttpStatusHeader,
    timeoutMs: number,
    lane?: Duplex,
  ) {
    this.status = headers[':status'] ?? 0;
    this.headers = headers;
    this.body = lane !== undefined && LANE_HEADER in headers ? laneBody(stream, lane) : new ReplyBody(stream);
    this.#timeoutMs = timeoutMs;
  }

  /** Bytes of the body, where the agent announced it. */
  get length(): number | undefined {
    const text = this.headers[LANE_HEADER] ?? this.headers['content-length'];
    return text === undefined || text === '?' ? undefined : Number(text);
  }

  async json<T>(): Promise<T> {
    const text = await this.#text();
    try {
      return JSON.parse(text || 'null') as T;
    } catch (cause) {
      throw new CodedError('internal', `The agent's answer (status ${this.status}) is not JSON`, { cause });
    }
  }

  /** An agent that begins an answer and never ends it must not hold up whoever asked, say the stop that would end its machine. */
  async #text(): Promise<string> {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const timer = setTimeout(() => {
      const detail = `The agent's answer was not complete within ${this.#timeoutMs} ms`;
      this.body.destroy(new CodedError('agent_lost', detail));
    }, this.#timeoutMs);
    try {
      for await (const chunk of this.body as AsyncIterable<Buffer>) {
        chunks.push(chunk);
        bytes += chunk.length;
        if (bytes > MOST_JSON_BYTES)
          throw new CodedError('internal', `An answer of the agent has over ${bytes} bytes`);
      }
    } finally {
      clearTimeout(timer);
    }
    return Buffer.concat(chunks).toString();
  }

  /** The JSON of a good answer; a bad one is thrown with the agent's own code. */
  async expect<T>(): Promise<T> {
    await this.check();
    return this.json<T>();
  }

  /** Throws what a bad answer says; leaves the body of a good one alone. */
  async check(): Promise<void> {
    if (this.status < 400) return;
    const { code, detail, field } = await this.json<Partial<AgentError>>().then((body) => body ?? {});
    if (code !== undefined && Object.hasOwn(ERRORS, code)) {
      throw new CodedError(code as ErrorCode, detail ?? code, field === undefined ? {} : { field });
    }
    throw new CodedError('internal', `The agent answered ${this.status}${detail ? `: ${detail}` : ''}`);
  }
}

/** The answer's bytes with an honest end: an HTTP/2 stream that is cut off may close without an error. */
class ReplyBody extends Readable {
  readonly #stream: ClientHttp2Stream;

  constructor(stream: ClientHttp2Stream) {
    super({ highWaterMark: 1024 * 1024 });
    this.#stream = stream;
    // Told to whoever reads; an answer that nobody reads to its end must not end the process.
    this.on('error', () => {});
    let ended = false;
    stream.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) stream.pause();
    });
    stream.once('end', () => {
      // A stream that was reset also says `end`; only its code tells.
      ended = !stream.aborted && stream.rstCode === 0;
      if (ended) this.push(null);
    });
    stream.on('error', (error) => this.destroy(brokenOff(error)));
    stream.once('close', () => {
      if (!ended) this.destroy(brokenOff());
    });
    stream.pause();
  }

  override _read(): void {
    this.#stream.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    // An agent that still has to send must not be told code 0: its Node would leave it waiting for room on a closed stream.
    const code = this.readableEnded ? constants.NGHTTP2_NO_ERROR : constants.NGHTTP2_CANCEL;
    if (!this.#stream.closed) this.#stream.close(code);
    done(error);
  }
}

/** The body is on the lane; its HTTP/2 stream has no bytes, and ends when the agent knows that all of them arrived. */
function laneBody(stream: ClientHttp2Stream, lane: Duplex): Readable {
  stream.on('error', (error) => lane.destroy(brokenOff(error)));
  stream.resume();
  lane.once('close', () => {
    if (!lane.readableEnded) stream.close(constants.NGHTTP2_CANCEL);
  });
  return lane;
}

export function brokenOff(cause?: Error): CodedError {
  if (cause instanceof CodedError) return cause;
  return new CodedError('agent_lost', 'The connection to the agent broke before the answer was complete', {
    cause,
  });
}
