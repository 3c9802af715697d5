import { setMaxListeners } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { addAbortSignal, pipeline } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { CodedError } from '../errors.ts';
import { FORWARDED_HEADER, neverConnected, peerRequest } from '../peers.ts';
import type { ApiDeps } from './deps.ts';
import { NDJSON } from './proxy.ts';
import type { Api } from './types.ts';

/** Routes about one session that the database alone can answer: any controller does. */
const ANSWERED_ANYWHERE: ReadonlySet<string> = new Set([
  'GET /v1/sessions/:id',
  'GET /v1/sessions/:id/events',
]);
const OF_A_SESSION = '/v1/sessions/:id';

/** Sends a request about this session on where it is another controller's; false where it is to be answered here. */
export type Forwarder = (
  request: FastifyRequest,
  reply: FastifyReply,
  session: { id: string; starts: boolean; body?: unknown },
) => Promise<boolean>;

/**
 * Requests about a session go to the controller that works for its cell, as they came, with the caller's own key: by HTTP on the private
 * network, both bodies as streams, and never further than one hop.
 */
export function forwardToHolder(app: Api, { elsewhere }: Pick<ApiDeps, 'elsewhere'>): Forwarder {
  /** Ends streams of lines, those that begin later, too: whom a session belongs to may be found out while this controller shuts down. */
  const closing = new AbortController();
  setMaxListeners(0, closing.signal);
  app.addHook('preClose', async () => closing.abort(new Error('The controller is shutting down')));
  const forward: Forwarder = async (request, reply, { id, starts, body }) => {
    if (request.headers[FORWARDED_HEADER] !== undefined) return false;
    const address = await elsewhere(id, starts);
    if (address === null) return false;
    await passOn(request, reply, address, body, closing.signal);
    return true;
  };
  app.addHook('onRequest', (request, reply, done) => {
    const { method, url } = request.routeOptions;
    if (!url?.startsWith(OF_A_SESSION) || ANSWERED_ANYWHERE.has(`${method} ${url}`)) return done();
    const { id } = request.params as { id: string };
    const session = { id, starts: url === `${OF_A_SESSION}/open` };
    forward(request, reply, session).then((forwarded) => forwarded || done(), done);
  });
  return forward;
}

/** Resolves when the answer has begun. Rejects where there was none: then nothing has been said to the client yet. */
async function passOn(
  request: FastifyRequest,
  reply: FastifyReply,
  address: string,
  body: unknown,
  closing: AbortSignal,
): Promise<void> {
  const { method = 'GET', url = '/', headers } = request.raw;
  const text = body === undefined ? undefined : JSON.stringify(body);
  const outgoing = peerRequest(address, {
    method,
    url,
    headers:
      text === undefined
        ? headers
        : {
            ...headers,
            'content-type': 'application/json',
            'content-length': String(Buffer.byteLength(text)),
          },
  });
  // Whoever gives up waiting ends it there, too; a body that breaks off does not look complete.
  reply.raw.once('close', () => reply.raw.writableFinished || outgoing.destroy());
  if (text !== undefined) outgoing.end(text);
  else pipeline(request.raw, outgoing, () => {});
  const answer = await answerOf(outgoing, method);
  reply.hijack();
  const { connection: _, 'keep-alive': __, 'transfer-encoding': ___, ...kept } = answer.headers;
  reply.raw.writeHead(answer.statusCode!, kept);
  // The client is to see at once that it has begun.
  reply.raw.flushHeaders();
  if (answer.headers['content-type']?.startsWith(NDJSON)) addAbortSignal(closing, answer);
  // With those of the pipeline it has more listeners than Node takes for a leak's.
  reply.raw.setMaxListeners(0);
  pipeline(answer, reply.raw, () => {});
}

function answerOf(outgoing: ReturnType<typeof peerRequest>, method: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    outgoing.once('response', resolve);
    outgoing.on('error', (error) => {
      const harmless = neverConnected(error) || method === 'GET';
      const code = harmless ? 'cell_elsewhere' : 'cell_lost';
      reject(
        new CodedError(code, `The controller of the session did not answer: ${error.message}`, {
          cause: error,
        }),
      );
    });
  });
}
