import { setMaxListeners } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { addAbortSignal, pipeline } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { CodedError } from '../errors.ts';
import { FORWARDED_HEADER, neverConnected, peerRequest } from '../peers.ts';
import { Pulse } from '../pulse.ts';
import type { ApiDeps } from './deps.ts';
import { NDJSON } from './proxy.ts';
import type { Api } from './types.ts';

/** Routes about one session that the database alone can answer: any controller does. */
const ANSWERED_ANYWHERE: ReadonlySet<string> = new Set([
  'GET /v1/sessions/:id',
  'GET /v1/sessions/:id/events',
]);
/** By then the cell has another holder, or the one that it has is back: a lease is a few times as long. */
const RETRY_AFTER_MS = 2_000;
const OF_A_SESSION = '/v1/sessions/:id';

type To = { address: string; pulse: Pulse; closing: AbortSignal };

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
  const pulse = new Pulse();
  app.addHook('preClose', async () => closing.abort(new Error('The controller is shutting down')));
  const forward: Forwarder = async (request, reply, { id, starts, body }) => {
    if (request.headers[FORWARDED_HEADER] !== undefined) return false;
    const address = await elsewhere(id, starts);
    if (address === null) return false;
    await passOn(request, reply, { address, pulse, closing: closing.signal }, body);
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

/**
 * Resolves when the answer has begun. Rejects where there was none: then nothing has been said to the client yet. A controller that stands
 * still is noticed before anything is sent, or while its answer is waited for, which may take as long as it is at work.
 */
async function passOn(
  request: FastifyRequest,
  reply: FastifyReply,
  { address, pulse, closing }: To,
  body: unknown,
): Promise<void> {
  const { method = 'GET', url = '/', headers } = request.raw;
  await pulse.assure(address).catch((error: Error) => {
    throw notAnswered('cell_elsewhere', error);
  });
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
  let answer: IncomingMessage | undefined;
  const unwatch = pulse.watch(address, (error) => {
    answer?.destroy(error);
    outgoing.destroy(error);
  });
  outgoing.once('close', unwatch);
  // Whoever gives up waiting ends it there, too; a body that breaks off does not look complete.
  reply.raw.once('close', () => reply.raw.writableFinished || outgoing.destroy());
  if (text !== undefined) outgoing.end(text);
  // No pipeline: where the other breaks off, the client is still to be told.
  else request.raw.pipe(outgoing);
  try {
    answer = await answerOf(outgoing, method);
  } catch (error) {
    request.raw.unpipe(outgoing);
    request.raw.resume();
    throw error;
  }
  pulse.heard(address);
  reply.hijack();
  const { connection: _, 'keep-alive': __, 'transfer-encoding': ___, ...kept } = answer.headers;
  reply.raw.writeHead(answer.statusCode!, kept);
  // The client is to see at once that it has begun.
  reply.raw.flushHeaders();
  if (answer.headers['content-type']?.startsWith(NDJSON)) addAbortSignal(closing, answer);
  // With those of the pipeline it has more listeners than Node takes for a leak's.
  reply.raw.setMaxListeners(0);
  pipeline(answer, reply.raw, unwatch);
}

function answerOf(outgoing: ReturnType<typeof peerRequest>, method: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    outgoing.once('response', resolve);
    outgoing.on('error', (error) => {
      const harmless = neverConnected(error) || method === 'GET';
      reject(notAnswered(harmless ? 'cell_elsewhere' : 'cell_lost', error));
    });
  });
}

function notAnswered(code: 'cell_elsewhere' | 'cell_lost', cause: Error): CodedError {
  return new CodedError(code, `The controller of the session did not answer: ${cause.message}`, {
    cause,
    ...(code === 'cell_elsewhere' && { retryAfterMs: RETRY_AFTER_MS }),
  });
}
