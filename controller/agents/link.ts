import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  constants,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { pipeline, type Readable } from 'node:stream';
import { CodedError } from '../errors.ts';
import { AgentReply } from './reply.ts';

export interface AgentRequest {
  method: string;
  path: string;
  headers?: Record<string, string>;
  body?: Readable | Uint8Array | string;
  /** Until the headers of the answer, and as long again for the body of a JSON answer; milliseconds. Default 30000. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

const DEFAULT_TIMEOUT_MS = 30_000;

/** The connection of one sandbox's agent. It ends once; an agent that dials again gets a new one. */
export class AgentLink {
  readonly sandbox: string;
  readonly incarnation: number;
  /** Settles with the reason when the connection has ended. */
  readonly closed: Promise<string>;
  readonly #session: ClientHttp2Session;
  readonly #stopPings: () => void;
  #reason: string | undefined;

  constructor(sandbox: string, incarnation: number, session: ClientHttp2Session, ping: PingTimes) {
    this.sandbox = sandbox;
    this.incarnation = incarnation;
    this.#session = session;
    this.#stopPings = keepPinging(session, ping, () => this.close('no answer to a ping'));
    this.closed = new Promise((resolve) => {
      session.once('close', () => {
        this.#stopPings();
        this.#reason ??= 'the agent closed the connection';
        resolve(this.#reason);
      });
    });
    // Told through `closed` and to each stream; without a listener it would end the process.
    session.on('error', (error) => {
      this.#reason ??= error.message;
    });
    session.on('goaway', () => this.close('the agent is going away'));
  }

  get connected(): boolean {
    return this.#reason === undefined && !this.#session.closed && !this.#session.destroyed;
  }

  /**
   * Sends one request. Rejects with `agent_unreachable` when it was provably not sent and with `agent_lost` when it may have
   * been: no answer in time, or the connection broke.
   */
  async request(request: AgentRequest): Promise<AgentReply> {
    request.signal?.throwIfAborted();
    if (!this.connected) throw this.#unreachable();
    const headers: OutgoingHttpHeaders = {
      ...request.headers,
      [constants.HTTP2_HEADER_METHOD]: request.method,
      [constants.HTTP2_HEADER_PATH]: request.path,
    };
    let stream: ClientHttp2Stream;
    try {
      stream = this.#session.request(headers, { endStream: request.body === undefined });
    } catch (cause) {
      throw this.#unreachable(cause);
    }
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer);
        request.signal?.removeEventListener('abort', abandon);
        stream.off('error', fail).off('close', fail);
      };
      const fail = (cause?: unknown) => {
        settle();
        stream.on('error', () => {});
        // Not close(): while a body is piped into the stream, Node sends no reset then, and the agent waits for the rest. And
        // not without an error: the agent would see a reset with code 0, which can't be told from the body's end.
        if (!stream.destroyed) stream.destroy(cause instanceof Error ? cause : new Error('given up'));
        if (cause instanceof CodedError || request.signal?.aborted) return reject(cause);
        // Without an id the stream never left: it waited for the session, which is gone.
        reject(
          stream.id === undefined ? this.#unreachable(cause) : lost(request, 'The connection broke', cause),
        );
      };
      const abandon = () => fail(request.signal?.reason);
      const timeoutMs = request.timeoutMs ?? DEFAULT_TIMEOUT_MS;
      const timer = setTimeout(() => fail(lost(request, `No answer within ${timeoutMs} ms`)), timeoutMs);
      stream.once('response', (answer) => {
        settle();
        const reply = new AgentReply(stream, answer, timeoutMs);
        // From here on giving up means that the body breaks off.
        const give = () => reply.body.destroy(request.signal?.reason as Error);
        request.signal?.addEventListener('abort', give, { once: true });
        stream.once('close', () => request.signal?.removeEventListener('abort', give));
        resolve(reply);
      });
      stream.on('error', fail);
      stream.once('close', fail);
      request.signal?.addEventListener('abort', abandon, { once: true });
      send(stream, request.body, fail);
    });
  }

  /** Ends the connection at once; open requests fail with `agent_lost`. */
  close(reason: string): void {
    this.#reason ??= reason;
    this.#stopPings();
    this.#session.destroy();
  }

  #unreachable(cause?: unknown): CodedError {
    return new CodedError('agent_unreachable', `The agent of ${this.sandbox} is not connected`, { cause });
  }
}

function lost(request: AgentRequest, what: string, cause?: unknown): CodedError {
  return new CodedError('agent_lost', `${what} (${request.method} ${request.path.split('?')[0]})`, { cause });
}

function send(stream: ClientHttp2Stream, body: AgentRequest['body'], fail: (cause: unknown) => void): void {
  if (body === undefined) return;
  if (typeof body === 'string' || body instanceof Uint8Array) {
    stream.end(body);
    return;
  }
  pipeline(body, stream, (error) => {
    // An agent that answers before it has read all is no fault of the body.
    if (error && !stream.closed && !stream.destroyed) fail(error);
  });
}

export interface PingTimes {
  everyMs: number;
  /** An answer that takes longer means that nobody is there. */
  answerMs: number;
}

/** A half-open socket says nothing by itself for minutes; a ping that stays unanswered does. */
function keepPinging(
  session: ClientHttp2Session,
  { everyMs, answerMs }: PingTimes,
  dead: () => void,
): () => void {
  let overdue: NodeJS.Timeout | undefined;
  const beat = setInterval(() => {
    if (overdue !== undefined || session.destroyed) return;
    overdue = setTimeout(dead, answerMs);
    session.ping((error) => {
      clearTimeout(overdue);
      overdue = undefined;
      if (error) dead();
    });
  }, everyMs);
  beat.unref();
  return () => {
    clearInterval(beat);
    clearTimeout(overdue);
  };
}
