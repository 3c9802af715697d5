import type { FileStat } from '../../agents/wire.ts';
import { bytes, json, lines, nothing } from '../answers.ts';
import type { ApiDeps } from '../deps.ts';
import { askAgent, askAgentJson, jsonBody, ofLength, withQuery } from '../proxy.ts';
import * as schemas from '../schemas.ts';
import type { StreamSender } from '../streams.ts';
import type { Api } from '../types.ts';

export function fileRoutes(app: Api, { manager }: ApiDeps, sendLines: StreamSender): void {
  const tags = ['files'];
  const params = schemas.SessionParams;

  app.get(
    '/sessions/:id/files',
    {
      schema: {
        tags,
        summary: 'Read a file; its stat is in the header x-mobvibe-stat (URI-encoded JSON)',
        params,
        querystring: schemas.FileReadQuery,
        response: bytes('The content'),
      },
    },
    async (request, reply) => {
      const path = withQuery('/files', request.query);
      const { answer } = await askAgent(manager, reply, request.params.id, {
        method: 'GET',
        path,
        lane: true,
      });
      const stat = answer.headers['x-mobvibe-stat'];
      if (stat !== undefined) reply.header('x-mobvibe-stat', stat);
      reply.type('application/octet-stream');
      const { body, length } = answer;
      if (length === undefined) return reply.send(body);
      return reply.header('content-length', length).send(ofLength(body, length));
    },
  );

  app.delete(
    '/sessions/:id/files',
    {
      schema: {
        tags,
        summary: 'Remove a file, or with recursive=1 a folder with all that is in it',
        params,
        querystring: schemas.FileTreeQuery,
        response: nothing('It is gone'),
      },
    },
    async (request, reply) => {
      const path = withQuery('/files', request.query);
      const { answer } = await askAgent(manager, reply, request.params.id, { method: 'DELETE', path });
      answer.body.resume();
      return reply.code(204).send(null);
    },
  );

  app.get(
    '/sessions/:id/files/stat',
    {
      schema: {
        tags,
        summary: 'Look at a file, folder or link (the link itself)',
        params,
        querystring: schemas.FileQuery,
        response: json(schemas.FileStat, 'What it is'),
      },
    },
    async (request, reply) => {
      const path = withQuery('/files/stat', request.query);
      return (await askAgentJson<FileStat>(manager, reply, request.params.id, { method: 'GET', path })).body;
    },
  );

  app.get(
    '/sessions/:id/files/list',
    {
      schema: {
        tags,
        summary: 'List a folder, sorted by path',
        params,
        querystring: schemas.FileTreeQuery,
        response: lines(schemas.FileStat, 'One line for each'),
      },
    },
    async (request, reply) => {
      const path = withQuery('/files/list', request.query);
      const { answer } = await askAgent(manager, reply, request.params.id, { method: 'GET', path });
      return sendLines(reply, answer.body);
    },
  );

  const changes = [
    { name: 'mkdir', body: schemas.MkdirRequest, summary: 'Make a folder and those above it' },
    { name: 'move', body: schemas.MoveRequest, summary: 'Move or rename' },
    { name: 'symlink', body: schemas.SymlinkRequest, summary: 'Make a symbolic link' },
  ];
  for (const { name, body, summary } of changes) {
    app.post(
      `/sessions/:id/files/${name}`,
      { schema: { tags, summary, params, body, response: json(schemas.FileStat, 'What is there now') } },
      async (request, reply) => {
        const ask = { method: 'POST', path: `/files/${name}`, ...jsonBody(request.body) };
        return (await askAgentJson<FileStat>(manager, reply, request.params.id, ask)).body;
      },
    );
  }
}
