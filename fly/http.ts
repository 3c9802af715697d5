import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest, type RequestOptions } from 'node:https';
import axios, { isAxiosError } from 'axios';
import type { Failure } from './classify.ts';

export interface WireRequest {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** From the root, e.g. `/v1/apps`, encoded, with its query. */
  path: string;
  headers: Record<string, string>;
  body?: unknown;
  /** For this one exchange, from connecting to the last byte. */
  timeoutMs: number;
  signal: AbortSignal;
}

export interface WireReply {
  type: 'reply';
  status: number;
  text: string;
  requestId: string | undefined;
  retryAfterMs: number | undefined;
}

export type WireOutcome = WireReply | Exclude<Failure, { type: 'reply' }>;

/** One exchange with the API. Never rejects: an answer of any status, or why there is none. */
export interface Wire {
  send(request: WireRequest): Promise<WireOutcome>;
  /** Closes idle connections. */
  close(): void;
}

/** Far above the list of a full app; keeps a broken peer from filling memory. */
const MAX_REPLY_BYTES = 64 * 1024 * 1024;

/** Failures of connecting: name, route, port, or TLS. No byte of the request has left by then. */
const NEVER_SENT = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'CERT_HAS_EXPIRED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'ERR_TLS_CERT_ALTNAME_INVALID',
]);

/**
 * axios with connections kept alive. What axios throws carries the request's headers, so it ends here: only a
 * plain word for what happened leaves this function.
 */
export function createWire(baseUrl: string, authorization: string): Wire {
  const requestTo = baseUrl.startsWith('https:') ? httpsRequest : httpRequest;
  const httpAgent = new HttpAgent({ keepAlive: true });
  const httpsAgent = new HttpsAgent({ keepAlive: true });
  const http = axios.create({
    baseURL: baseUrl,
    httpAgent,
    httpsAgent,
    // The token goes to the API itself: neither to where a redirect points nor to a proxy that the
    // environment names.
    maxRedirects: 0,
    proxy: false,
    headers: {
      Authorization: authorization,
      Accept: 'application/json',
      'User-Agent': 'mobvibe-sandboxes',
    },
    // We tell statuses apart and read the JSON ourselves, as a proxy's 502 page must not fail in the parser.
    validateStatus: () => true,
    responseType: 'text',
    transformResponse: [(text: unknown) => text],
    maxContentLength: MAX_REPLY_BYTES,
  });

  return {
    async send({ method, path, headers, body, timeoutMs, signal }) {
      const giveUp = new AbortController();
      const timer = setTimeout(() => giveUp.abort(), timeoutMs);
      const onAbort = (): void => giveUp.abort();
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) giveUp.abort();
      let connected = false;
      try {
        const reply = await http.request({
          method,
          url: path,
          // axios would call an absent body a form.
          headers: { ...headers, 'Content-Type': body === undefined ? false : 'application/json' },
          data: body === undefined ? undefined : JSON.stringify(body),
          signal: giveUp.signal,
          transport: {
            request(options: RequestOptions, answered: (answer: IncomingMessage) => void): ClientRequest {
              const sent = requestTo(options, answered);
              whenConnected(sent, () => {
                connected = true;
              });
              return sent;
            },
          },
        });
        return {
          type: 'reply',
          status: reply.status,
          text: typeof reply.data === 'string' ? reply.data : '',
          requestId: headerOf(reply.headers['fly-request-id']),
          retryAfterMs: retryAfterMs(headerOf(reply.headers['retry-after'])),
        };
      } catch (error) {
        // Whatever ended it: while there was no connection, no byte had left.
        if (!connected && giveUp.signal.aborted) return { type: 'never_sent' };
        if (signal.aborted) return { type: 'no_answer', why: 'aborted' };
        if (giveUp.signal.aborted) return { type: 'no_answer', why: 'timeout' };
        return isAxiosError(error) && neverSent(error)
          ? { type: 'never_sent' }
          : { type: 'no_answer', why: 'disconnected' };
      } finally {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
      }
    },
    close() {
      httpAgent.destroy();
      httpsAgent.destroy();
    },
  };
}

/** At once where the connection is one that was kept. */
function whenConnected(request: ClientRequest, tell: () => void): void {
  request.once('socket', (socket) => {
    if (socket.connecting) socket.once('connect', tell);
    else tell();
  });
}

function neverSent(error: { code?: string; cause?: unknown }): boolean {
  const cause = error.cause as { syscall?: string } | undefined;
  return cause?.syscall === 'connect' || NEVER_SENT.has(error.code ?? '');
}

function headerOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

/** Seconds, as HTTP has it. Dates are not worth a clock of their own: Fly documents no Retry-After at all. */
function retryAfterMs(value: string | undefined): number | undefined {
  const seconds = Number(value);
  return value !== undefined && Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined;
}

/**
 * The value of the Authorization header (Fly docs, "security/tokens"; superfly/fly-go `tokens`): macaroons,
 * which begin with `fm1r_`, `fm1a_` or `fm2_` and may be several with commas between, go under the scheme
 * `FlyV1`, all other tokens under `Bearer`.
 */
export function authorizationHeader(token: string): string {
  const bare = token.trim().replace(/^(?:FlyV1|Bearer)\s+/i, '');
  return /^fm(?:1r|1a|2)_/.test(bare) ? `FlyV1 ${bare}` : `Bearer ${bare}`;
}
