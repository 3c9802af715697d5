import type { FastifyReply } from 'fastify';
import type { ExecInfo as AgentExecInfo, ExecEvent } from '../../agents/wire.ts';
import { CodedError } from '../../errors.ts';
import { checkCommand } from '../../sessions/requests.ts';
import { json, lines, nothing } from '../answers.ts';
import type { ApiDeps, SessionManager } from '../deps.ts';
import { askAgent, askAgentJson, jsonBody, NDJSON, withIncarnation, withQuery } from '../proxy.ts';
import * as schemas from '../schemas.ts';
import type { StreamSender } from '../streams.ts';
import type { Api } from '../types.ts';

export function execRoutes(app: Api, { manager, execTimeoutMs }: ApiDeps, sendLines: StreamSender): void {
  const tags = ['execs'];

  app.put(
    '/sessions/:id/execs/:exec_id',
    {
      schema: {
        tags,
        summary: 'Start a command, or attach to it where this id runs the same one; it never runs twice',
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
      checkCommand(request.body);
      const path = `/execs/${request.params.exec_id}`;
      const ask = { method: 'PUT', ...jsonBody({ timeout_ms: execTimeoutMs, ...request.body }) };
      if (request.headers.accept?.includes(NDJSON)) {
        const { answer, sandbox } = await askAgent(manager, reply, request.params.id, {
          path: `${path}?follow=1`,
          ...ask,
        });
        return sendLines(reply, withIncarnation(answer.body, sandbox.incarnation), answer.status);
      }
      const { status, body, incarnation } = await askAgentJson<AgentExecInfo>(
        manager,
        reply,
        request.params.id,
        {
          path,
          ...ask,
        },
      );
      return reply.code(status === 201 ? 201 : 200).send({ ...body, incarnation });
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
      const { body, incarnation } = await askAgentJson<AgentExecInfo[]>(manager, reply, request.params.id, {
        method: 'GET',
        path: '/execs',
      });
      return { items: body.map((info) => ({ ...info, incarnation })), next_cursor: null };
    },
  );

  app.get(
    '/sessions/:id/execs/:exec_id',
    {
      schema: {
        tags,
        summary: 'Look at one command',
        params: schemas.ExecParams,
        response: json(schemas.ExecInfo, 'What is known of it'),
      },
    },
    async (request, reply) => {
      const { body, incarnation } = await askAgentJson<AgentExecInfo>(manager, reply, request.params.id, {
        method: 'GET',
        path: `/execs/${request.params.exec_id}`,
      });
      return { ...body, incarnation };
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
          'Its events; a single `end` (machine_lost) when its sandbox is gone',
        ),
      },
    },
    async (request, reply) => {
      const { id, exec_id } = request.params;
      const { stdout = 0, stderr = 0, incarnation } = request.query;
      const lost = await whyLost(manager, id, incarnation);
      if (lost !== null) return sendEnd(reply, lost, stdout, stderr);
      const path = withQuery(`/execs/${exec_id}/output`, { stdout, stderr });
      const { answer, sandbox } = await askAgent(manager, reply, request.params.id, { method: 'GET', path });
      return sendLines(reply, withIncarnation(answer.body, sandbox.incarnation));
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

/** Why the sandbox that an exec ran in cannot answer for it any more; null while it can. */
async function whyLost(manager: SessionManager, id: string, incarnation?: number): Promise<string | null> {
  if (incarnation === undefined) return null;
  try {
    const { sandbox } = await manager.link(id);
    if (sandbox.incarnation === incarnation) return null;
    return `The command ran in sandbox ${incarnation} of the session; it is now at ${sandbox.incarnation}`;
  } catch (error) {
    if (!(error instanceof CodedError) || !ENDED.has(error.code)) throw error;
    return error.detail;
  }
}

const ENDED = new Set<string>(['session_not_open', 'session_stopping']);

function sendEnd(
  reply: FastifyReply,
  reason: string,
  stdout_bytes: number,
  stderr_bytes: number,
): FastifyReply {
  const result = { kind: 'machine_lost', reason } as const;
  const end: ExecEvent = { type: 'end', result, stdout_bytes, stderr_bytes, duration_ms: 0 };
  return reply
    .type(NDJSON)
    .serializer(String)
    .send(`${JSON.stringify(end)}\n`);
}
