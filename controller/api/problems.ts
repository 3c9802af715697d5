import type { Socket } from 'node:net';
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { CodedError } from '../errors.ts';

export const PROBLEM_JSON = 'application/problem+json';

/** Every failure of a route leaves through here, so whatever is not one of ours says nothing about the inside. */
export function sendProblem(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  // The client has gone, which is why this failed; nobody reads what is said now.
  if (reply.raw.destroyed) return reply.hijack();
  const coded = toCodedError(error);
  if (coded.code === 'internal') request.log.error({ err: error }, 'request failed');
  if (coded.code === 'unauthorized') reply.header('www-authenticate', 'Bearer');
  if (coded.retryAfterMs !== undefined) reply.header('retry-after', Math.ceil(coded.retryAfterMs / 1000));
  request.errorCode = coded.code;
  return reply
    .code(coded.status)
    .header('content-type', PROBLEM_JSON)
    .serializer(JSON.stringify)
    .send(coded.toProblem());
}

export function toCodedError(error: unknown): CodedError {
  if (error instanceof CodedError) return error;
  return (
    fromFastify(error as Partial<FastifyError>) ??
    new CodedError('internal', 'The request failed inside the controller')
  );
}

/** Errors that fastify itself raises before a handler runs. */
function fromFastify({ code, statusCode }: Partial<FastifyError>): CodedError | undefined {
  switch (code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new CodedError('body_too_large', 'A JSON body may have 1 MiB at most');
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
      return new CodedError('invalid_json', 'The body is empty; JSON was expected');
    case 'FST_ERR_CTP_INVALID_JSON_BODY':
      return new CodedError('invalid_json', 'The body is not JSON');
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new CodedError('invalid_request', 'This route does not take a body of this content-type', {
        field: 'content-type',
      });
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return new CodedError('invalid_request', 'The body is not as long as content-length says', {
        field: 'content-length',
      });
    case 'FST_ERR_BAD_URL':
      return new CodedError('invalid_request', 'The URL is not well-formed');
    default:
      return statusCode === 400 ? new CodedError('invalid_json', 'The body is not JSON') : undefined;
  }
}

/** Answers what Node could not read as HTTP: it never becomes a request, and no hook hears of it. */
export function answerMalformed(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const problem = new CodedError(
    'invalid_request',
    `This is no well-formed HTTP request (${error.code})`,
  ).toProblem();
  const body = JSON.stringify(problem);
  socket.end(
    `HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: ${PROBLEM_JSON}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

export function routeNotFound(request: FastifyRequest): never {
  const path = request.url.split('?')[0]!;
  throw new CodedError('route_not_found', `There is no route ${request.method} ${path.slice(0, 200)}`);
}
