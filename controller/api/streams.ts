import { setMaxListeners } from 'node:events';
import { addAbortSignal, type Readable } from 'node:stream';
import type { FastifyReply } from 'fastify';
import { NDJSON } from './proxy.ts';

/** Answers with a stream of lines; see `createStreamSender`. */
export type StreamSender = (reply: FastifyReply, body: Readable, status?: number) => FastifyReply;

/**
 * Streams of lines may last for hours, so a controller that shuts down cuts them: their readers come back to the next one
 * with the offsets they have. Fastify does the rest: back-pressure, and the source destroyed when the client goes away.
 */
export function createStreamSender(): { sendLines: StreamSender; cutAll(): void } {
  const closing = new AbortController();
  setMaxListeners(0, closing.signal);
  return {
    sendLines(reply, body, status = 200) {
      // One that begins after the cut is cut as well.
      addAbortSignal(closing.signal, body);
      // Its source may be waiting for something, and notice late.
      const cut = () => reply.raw.destroy();
      closing.signal.addEventListener('abort', cut, { once: true });
      reply.raw.once('close', () => closing.signal.removeEventListener('abort', cut));
      return reply.code(status).header('content-type', NDJSON).header('cache-control', 'no-store').send(body);
    },
    cutAll: () => closing.abort(new Error('The controller is shutting down')),
  };
}
