import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

/** What a handler answers. A stream as body is piped, and destroyed when the caller goes away. */
export interface Reply {
  status: number;
  headers?: Record<string, string | number>;
  body?: string | Readable;
}

/** An error that has its own answer: REST, Storage and key errors each have a form of their own. */
export abstract class ReplyError extends Error {
  abstract toReply(): Reply;
}

export function json(status: number, value: unknown, headers: Record<string, string | number> = {}): Reply {
  return {
    status,
    headers: { 'content-type': 'application/json; charset=utf-8', ...headers },
    body: JSON.stringify(value),
  };
}

/** A part of Supabase that the stand-in does not have: 501, never a wrong answer. */
export class NotSupported extends ReplyError {
  override readonly name = 'NotSupported';

  toReply(): Reply {
    return json(501, {
      code: 'not_supported',
      statusCode: '501',
      error: 'not_supported',
      message: `The local Supabase stand-in does not support ${this.message}`,
      details: null,
      hint: 'See local/supabase/gateway/gateway.ts for what it does support',
    });
  }
}

export async function send(request: IncomingMessage, response: ServerResponse, reply: Reply): Promise<void> {
  const { body } = reply;
  const headers = { ...reply.headers };
  if (typeof body === 'string') headers['content-length'] = Buffer.byteLength(body);
  response.writeHead(reply.status, headers);
  if (body === undefined || request.method === 'HEAD') {
    if (typeof body === 'object') body.destroy();
    response.end();
  } else if (typeof body === 'string') {
    response.end(body);
  } else {
    await pipeline(body, response);
  }
}

/** The whole body in memory. `undefined`: it is larger than `maxBytes`; the rest was not read. */
export async function readBody(request: IncomingMessage, maxBytes: number): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBytes) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** First value of a header that may come once only. */
export function header(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value[0] : value;
}
