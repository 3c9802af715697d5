import type { FastifyReply } from 'fastify';
import type { ExecInfo as AgentExecInfo } from '../../agents/wire.ts';
import { CodedError } from '../../errors.ts';
import { endOfInfo, JOB_EXEC } from '../../sessions/exec-ends.ts';
import { commandKey } from '../../sessions/exec-registry.ts';
import { checkCommand } from '../../sessions/requests.ts';
import type { ExecRow } from '../../store/execs.ts';
import { json, lines, nothing } from '../answers.ts';
import type { AgentReply, ApiDeps, SessionLink } from '../deps.ts';
import { isError, linkToRead, placeToStart, rowInstead } from '../exec-links.ts';
import { infoOfRow, linesOfLost, linesOfRow } from '../known-execs.ts';
import { askAgent, askLink, jsonBody, NDJSON, withIncarnation, withQuery } from '../proxy.ts';
import * as schemas from '../schemas.ts';
import type { StreamSender } from '../streams.ts';
import type { Api } from '../types.ts';

export function execRoutes(
  app: Api,
  { manager, execs, execTimeoutMs }: ApiDeps,
  sendLines: StreamSender,
): void {
  const tags = ['execs'];
  /** Ends that pass by are written down, so that they can be told when the sandbox is gone. */
  const watched = ({ body }: AgentReply, { session, sandbox }: SessionLink, id: string) =>
    withIncarnation(body, sandbox.incarnation, (end) => execs.ended(session.id, id, end));
  const noted = (info: AgentExecInfo, { session, sandbox }: SessionLink) => {
    const end = endOfInfo(info);
    if (end !== null) execs.ended(session.id, info.id, end);
    return { ...info, incarnation: sandbox.incarnation };
  };

  app.put(
    '/sessions/:id/execs/:exec_id',
    {
      schema: {
        tags,
        summary:
          'Start a command, or attach to it where this id runs the same one; it never runs twice in the life of the session',
        description: `With \`Accept: ${NDJSON}\` the answer is the stream of its events, otherwise what is known of it.`,
        params: schemas.ExecParams,
        body: schemas.ExecSpec,
        response: {
          ...json(schemas.ExecInfo, 'It was started before', 200),
          ...json(schemas.ExecInfo, 'It was started now', 201),
        },
      },
    },
    async (request, reply) => {
      const { id: sessionId, exec_id: id } = request.params;
      refuseJobsId(id);
      checkCommand(request.body);
      const spec = { timeout_ms: execTimeoutMs, ...request.body };
      const follows = request.headers.accept?.includes(NDJSON) ?? false;
      const answerRow = (row: ExecRow) => (follows ? sendText(reply, linesOfRow(row)) : infoOfRow(row));
      const actor = `api:${request.caller!.id}`;
      const place = await placeToStart({ manager, execs }, { sessionId, id, key: commandKey(spec), actor });
      if ('row' in place) return answerRow(place.row);
      const { registered } = place;
      let answer: AgentReply;
      try {
        const path = `/execs/${id}${follows ? '?follow=1' : ''}`;
        answer = await askLink(place.link, reply, { method: 'PUT', path, ...jsonBody(spec) });
      } catch (error) {
        if (registered !== undefined) await execs.startFailed(registered, error);
        // The agent has dropped what it knew of it.
        if (isError(error, 'exec_ended') && registered?.exec.end) return answerRow(registered.exec);
        throw error;
      }
      const status = answer.status === 201 ? 201 : 200;
      if (follows) return sendLines(reply, watched(answer, place.link, id), status);
      return reply.code(status).send(noted(await answer.expect<AgentExecInfo>(), place.link));
    },
  );

  app.get(
    '/sessions/:id/execs',
    {
      schema: {
        tags,
        summary: 'List the commands of the present sandbox',
        params: schemas.SessionParams,
        response: json(schemas.ExecPage, 'All of them'),
      },
    },
    async (request, reply) => {
      const link = await linkToRead(manager, request.params.id);
      const answer = await askLink(link, reply, { method: 'GET', path: '/execs' });
      const infos = await answer.expect<AgentExecInfo[]>();
      return {
        items: infos.map((info) => ({ ...info, incarnation: link.sandbox.incarnation })),
        next_cursor: null,
      };
    },
  );

  app.get(
    '/sessions/:id/execs/:exec_id',
    {
      schema: {
        tags,
        summary: 'Look at one command, of an earlier sandbox too where its end was seen',
        params: schemas.ExecParams,
        response: json(schemas.ExecInfo, 'What is known of it'),
      },
    },
    async (request, reply) => {
      const { id: sessionId, exec_id: id } = request.params;
      let link: SessionLink | null = null;
      try {
        link = await linkToRead(manager, sessionId);
        const answer = await askLink(link, reply, { method: 'GET', path: `/execs/${id}` });
        return noted(await answer.expect<AgentExecInfo>(), link);
      } catch (error) {
        const present = link?.sandbox.incarnation ?? null;
        return infoOfRow(await rowInstead(execs, { sessionId, id }, present, error));
      }
    },
  );

  app.get(
    '/sessions/:id/execs/:exec_id/output',
    {
      schema: {
        tags,
        summary: 'Follow the output of a command from the given byte offsets to its end',
        params: schemas.ExecParams,
        querystring: schemas.OutputQuery,
        response: lines(
          schemas.ExecEvent,
          'Its events; when its sandbox is gone, a `gap` for what went with it and its `end` as it was seen there, or `machine_lost`',
        ),
      },
    },
    async (request, reply) => {
      const { id: sessionId, exec_id: id } = request.params;
      const { stdout = 0, stderr = 0, incarnation } = request.query;
      let link: SessionLink | null = null;
      try {
        link = await linkToRead(manager, sessionId);
        if (incarnation !== undefined && link.sandbox.incarnation !== incarnation)
          throw isElsewhere(link, incarnation);
        const path = withQuery(`/execs/${id}/output`, { stdout, stderr });
        const answer = await askLink(link, reply, { method: 'GET', path });
        return sendLines(reply, watched(answer, link, id));
      } catch (error) {
        const from = { stdout, stderr };
        try {
          const present = link?.sandbox.incarnation ?? null;
          const row = await rowInstead(execs, { sessionId, id }, present, error);
          return sendText(reply, linesOfRow(row, from));
        } catch (reason) {
          if (incarnation === undefined || !isError(reason, 'exec_lost', 'session_not_open')) throw reason;
          return sendText(reply, linesOfLost((error as CodedError).detail, from));
        }
      }
    },
  );

  app.post(
    '/sessions/:id/execs/:exec_id/signal',
    {
      schema: {
        tags,
        summary: 'Send a signal to all processes of a command',
        params: schemas.ExecParams,
        body: schemas.SignalRequest,
        response: nothing('It was sent'),
      },
    },
    async (request, reply) => {
      const path = `/execs/${request.params.exec_id}/signal`;
      const { answer } = await askAgent(manager, reply, request.params.id, {
        method: 'POST',
        path,
        ...jsonBody(request.body),
      });
      answer.body.resume();
      return reply.code(204).send(null);
    },
  );
}

/** The command is not of the sandbox that the session is at: for the reader the same as if no sandbox were open. */
function isElsewhere({ sandbox }: SessionLink, incarnation: number): CodedError {
  const detail = `The command ran in sandbox ${incarnation} of the session; it is now at ${sandbox.incarnation}`;
  return new CodedError('session_not_open', detail);
}

function refuseJobsId(id: string): void {
  if (!id.startsWith(JOB_EXEC)) return;
  const detail = `exec_id is "${id}": ids that begin with "${JOB_EXEC}" are those of jobs`;
  throw new CodedError('invalid_id', detail, { field: 'exec_id' });
}

function sendText(reply: FastifyReply, text: string): FastifyReply {
  return reply.type(NDJSON).serializer(String).send(text);
}
