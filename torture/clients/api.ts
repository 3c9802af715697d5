import http from 'node:http';
import type { Outcome } from '../history.ts';

/** Of a request without one of its own. */
const TIMEOUT_MS = 15_000;

export interface Ask {
  method: string;
  path: string;
  body?: unknown;
  /** Raw bytes instead of a JSON body. */
  bytes?: Uint8Array;
  headers?: Record<string, string>;
  timeoutMs?: number;
  signal?: AbortSignal;
  /** Each line of an NDJSON answer as it comes. */
  onLine?: (line: Record<string, unknown>) => void;
}

export interface Answer {
  outcome: Outcome;
  /** 0: there was no whole answer. */
  status: number;
  /** Of the error, or what broke. */
  code?: string;
  detail?: string;
  json: Record<string, unknown>;
  text: string;
  retryAfterMs?: number;
}

/**
 * One request to one controller, as plain as HTTP allows: never repeated, never led elsewhere, so that what is written down is what
 * happened.
 */
export function ask(url: string, apiKey: string, request: Ask): Promise<Answer> {
  const { method, path, body, bytes, timeoutMs = TIMEOUT_MS, onLine } = request;
  const payload = bytes ?? (body === undefined ? undefined : Buffer.from(JSON.stringify(body)));
  const headers: Record<string, string | number> = {
    authorization: `Bearer ${apiKey}`,
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    ...(bytes === undefined ? {} : { 'content-type': 'application/octet-stream' }),
    ...(payload === undefined ? {} : { 'content-length': payload.length }),
    ...request.headers,
  };
  return new Promise((resolve) => {
    const outgoing = http.request(new URL(path, url), { method, headers, agent: false });
    const timer = setTimeout(() => outgoing.destroy(new Error('timeout')), timeoutMs);
    const abort = () => outgoing.destroy(new Error('aborted'));
    request.signal?.addEventListener('abort', abort, { once: true });
    const end = (answer: Answer) => {
      clearTimeout(timer);
      request.signal?.removeEventListener('abort', abort);
      resolve(answer);
    };
    const broken = (error: NodeJS.ErrnoException) =>
      end({
        outcome: error.code === 'ECONNREFUSED' ? 'refused' : 'maybe',
        ...{ status: 0, code: error.code ?? error.message, json: {}, text: '' },
      });
    outgoing.on('error', broken);
    outgoing.on('response', (response) => {
      let text = '';
      let seen = 0;
      response.setEncoding('utf8');
      response.on('error', broken);
      response.on('data', (part: string) => {
        text += part;
        if (onLine === undefined || response.statusCode! >= 300) return;
        for (let at = text.indexOf('\n', seen); at >= 0; at = text.indexOf('\n', seen)) {
          const line = parsed(text.slice(seen, at));
          if (line.type !== undefined) onLine(line);
          seen = at + 1;
        }
      });
      response.on('aborted', () => broken(new Error('broken off')));
      response.on('end', () => end(answerOf(response, text)));
    });
    outgoing.end(payload);
  });
}

function answerOf(response: http.IncomingMessage, text: string): Answer {
  const status = response.statusCode!;
  const json = parsed(text);
  const retryAfter = Number(response.headers['retry-after']);
  return {
    outcome: outcomeOf(status, json),
    ...{ status, json, text },
    ...(status < 300 ? {} : { code: String(json.code ?? status), detail: String(json.detail ?? text) }),
    ...(retryAfter > 0 ? { retryAfterMs: retryAfter * 1000 } : {}),
  };
}

/** The API says itself whether an error may have had an effect. Pure. */
export function outcomeOf(status: number, json: Record<string, unknown>): Outcome {
  if (status < 300) return 'ack';
  return json.kind === 'mistake' || json.kind === 'fault' ? 'refused' : 'maybe';
}

function parsed(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
