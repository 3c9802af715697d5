import { type FileStat, LANE_FROM_BYTES } from '../../agents/wire.ts';
import { json } from '../answers.ts';
import type { ApiDeps } from '../deps.ts';
import { askAgentJson, UPLOAD_TIMEOUT_MS, withQuery } from '../proxy.ts';
import * as schemas from '../schemas.ts';
import type { Api } from '../types.ts';

/** The routes whose body is bytes, whatever its content-type says: it is left unread here and handed on as it comes. */
export function uploadRoutes(app: Api, { manager }: ApiDeps): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));

  app.put(
    '/sessions/:id/files',
    {
      schema: {
        tags: ['files'],
        summary:
          'Write a file; folders above it are made, and what was there is replaced at once or not at all',
        consumes: ['application/octet-stream'],
        params: schemas.SessionParams,
        querystring: schemas.FileWriteQuery,
        response: json(schemas.FileStat, 'The file as it is now'),
      },
    },
    async (request, reply) => {
      const { body } = await askAgentJson<FileStat>(manager, reply, request.params.id, {
        method: 'PUT',
        path: withQuery('/files', request.query),
        body: request.raw,
        // Without a length it may be large.
        lane: Number(request.headers['content-length'] ?? LANE_FROM_BYTES) >= LANE_FROM_BYTES,
        timeoutMs: UPLOAD_TIMEOUT_MS,
      });
      return body;
    },
  );

  app.post(
    '/sessions/:id/execs/:exec_id/stdin',
    {
      schema: {
        tags: ['execs'],
        summary: 'Send input from a byte offset; what was received before is not taken twice',
        consumes: ['application/octet-stream'],
        params: schemas.ExecParams,
        querystring: schemas.StdinQuery,
        response: json(schemas.StdinResult, 'How many bytes have been received in all'),
      },
    },
    async (request, reply) => {
      const path = withQuery(`/execs/${request.params.exec_id}/stdin`, request.query);
      const { body } = await askAgentJson<{ received: number }>(manager, reply, request.params.id, {
        method: 'POST',
        path,
        body: request.raw,
        timeoutMs: UPLOAD_TIMEOUT_MS,
      });
      return body;
    },
  );
}
