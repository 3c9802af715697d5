import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  constants,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { type Duplex, finished, pipeline, Readable } from 'node:stream';
import { CodedError } from '../errors.ts';
import { laneAccepted, laneStream } from './lane-stream.ts';
import { AgentReply, brokenOff } from './reply.ts';
import { LANE_HEADER } from './wire.ts';

export interface AgentRequest {
  method: string;
  path: string;
  headers?: Record<string, string>;
  body?: Readable | Uint8Array | string;
  /** Offers a lane (see wire.ts): for a large body, which has to be a stream, or for an answer that may be large. */
  lane?: boolean;
  /** Until the headers of the answer, and as long again for the body of a JSON answer; milliseconds. Default 30000. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

/** Accepts the upgrade of a lane. */
export type TakeLane = (request: IncomingMessage, socket: Duplex, head: Buffer) => void;

/** Why a connection was closed whose agent is silent. */
export const NO_ANSWER = 'no answer to a ping';
const DEFAULT_TIMEOUT_MS = 30_000;

/** The connection of one sandbox's agent. It ends once; an agent that dials again gets a new one. */
export class AgentLink {
  readonly sandbox: string;
  readonly incarnation: number;
  /** Settles with the reason when the connection has ended. */
  readonly closed: Promise<string>;
  /** Names the agent's process; why init had to start it anew in its machine, where it did. */
  readonly boot: string | undefined;
  readonly restarted: string | undefined;
  readonly #session: ClientHttp2Session;
  readonly #hasLanes: boolean;
  /** By id: the lanes that were offered and not dialed yet. */
  readonly #offered = new Map<string, TakeLane>();
  readonly #stopPings: () => void;
  #reason: string | undefined;

  constructor(
    sandbox: string,
    incarnation: number,
    session: ClientHttp2Session,
    ping: PingTimes,
    { hasLanes = false, boot, restarted }: AgentTraits = {},
  ) {
    this.sandbox = sandbox;
    this.incarnation = incarnation;
    this.boot = boot;
    this.restarted = restarted;
    this.#session = session;
    this.#hasLanes = hasLanes;
    this.#stopPings = keepPinging(session, ping, () => this.close(NO_ANSWER));
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
    const laneId = request.lane && this.#hasLanes ? randomUUID() : undefined;
    const headers: OutgoingHttpHeaders = {
      ...request.headers,
      ...(laneId !== undefined && { [LANE_HEADER]: laneId }),
      [constants.HTTP2_HEADER_METHOD]: request.method,
      [constants.HTTP2_HEADER_PATH]: request.path,
    };
    const { body } = request;
    const laden = laneId !== undefined && body instanceof Readable ? body : undefined;
    let stream: ClientHttp2Stream;
    try {
      stream = this.#session.request(headers, { endStream: body === undefined || laden !== undefined });
    } catch (cause) {
      throw this.#unreachable(cause);
    }
    return new Promise((resolve, reject) => {
      let lane: Duplex | undefined;
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
        const reply = new AgentReply(stream, answer, timeoutMs, lane);
        // From here on giving up means that the body breaks off.
        const give = () => reply.body.destroy(request.signal?.reason as Error);
        request.signal?.addEventListener('abort', give, { once: true });
        stream.once('close', () => request.signal?.removeEventListener('abort', give));
        resolve(reply);
      });
      stream.on('error', fail);
      stream.once('close', fail);
      request.signal?.addEventListener('abort', abandon, { once: true });
      if (laden === undefined) send(stream, body, fail);
      // What becomes of the lane on its way is for the agent to say: it knows why, and answers.
      else finished(laden, { writable: false }, (error) => error && fail(error));
      if (laneId === undefined) return;
      this.#offered.set(laneId, ({ headers }, socket, head) => {
        if (stream.destroyed) return void socket.destroy();
        socket.write(laneAccepted(String(headers['sec-websocket-key'])));
        lane = laneStream({ socket, head, dialed: false, broken: brokenOff });
        laden?.pipe(lane);
      });
      stream.once('close', () => {
        this.#offered.delete(laneId);
        if (!lane?.readableEnded) lane?.destroy(brokenOff());
      });
    });
  }

  /** Who takes the lane that the agent dials, once; undefined where no request waits for it. */
  takeLane(id: string): TakeLane | undefined {
    const taker = this.#offered.get(id);
    this.#offered.delete(id);
    return taker;
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

/** What an agent says of itself when it dials. */
export interface AgentTraits {
  /** It knows what a lane is. Default false. */
  hasLanes?: boolean;
  boot?: string | undefined;
  restarted?: string | undefined;
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
