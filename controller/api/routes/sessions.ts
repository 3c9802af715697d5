import type { FastifyRequest } from 'fastify';
import { bytes, createdOrFound, json } from '../answers.ts';
import type { ApiDeps, CallOptions } from '../deps.ts';
import { linkToRead } from '../exec-links.ts';
import type { Forwarder } from '../forward.ts';
import { chooseId } from '../ids.ts';
import { page } from '../paging.ts';
import { presentEvent, presentSession } from '../present.ts';
import * as schemas from '../schemas.ts';
import type { Api } from '../types.ts';

export function sessionRoutes(
  app: Api,
  { manager, lifecycle, files, store, clock }: ApiDeps,
  forward: Forwarder,
): void {
  const tags = ['sessions'];

  app.post(
    '/sessions',
    {
      schema: {
        tags,
        summary: 'Create a session and start its sandbox; safe to repeat with the same id or Idempotency-Key',
        querystring: schemas.WaitQuery,
        body: schemas.SessionCreate,
        response: createdOrFound(schemas.Session),
      },
    },
    async (request, reply) => {
      const { region, cpu_kind, cpus, memory_mb } = request.body;
      const id = chooseId(request.body.id, request.headers['idempotency-key'], clock);
      if (await forward(request, reply, { id, starts: true, body: { ...request.body, id } })) return reply;
      const row = await manager.createSandbox(
        {
          sessionId: id,
          ...(region === undefined ? {} : { region }),
          ...(cpu_kind === undefined ? {} : { cpuKind: cpu_kind }),
          ...(cpus === undefined ? {} : { cpus }),
          ...(memory_mb === undefined ? {} : { memory: memory_mb }),
        },
        callOptions(request.caller!.id, request.query.wait_ms),
      );
      return reply.code(row.created === false ? 200 : 201).send(presentSession(row));
    },
  );

  app.get(
    '/sessions',
    {
      schema: {
        tags,
        summary: 'List sessions by id',
        querystring: schemas.SessionListQuery,
        response: json(schemas.SessionPage, 'A page of sessions'),
      },
    },
    ({ query: { status, ...paging } }) =>
      page(
        paging,
        'text',
        (query) => store.listSessions({ ...query, ...(status === undefined ? {} : { status }) }),
        presentSession,
      ),
  );

  app.get(
    '/sessions/:id',
    {
      schema: {
        tags,
        summary: 'Look at one session',
        params: schemas.SessionParams,
        response: json(schemas.Session, 'The session'),
      },
    },
    async (request) => presentSession((await manager.getSandbox(request.params.id)).session),
  );

  app.post(
    '/sessions/:id/open',
    {
      schema: {
        tags,
        summary: 'Start a sandbox for a stopped session and restore its files; an open one stays as it is',
        params: schemas.SessionParams,
        querystring: schemas.WaitQuery,
        body: schemas.SessionOpen,
        response: json(schemas.Session, 'The session, ready where wait_ms allowed it'),
      },
      preValidation: bodyIsOptional,
    },
    async ({ params, query, body: { version }, caller }) =>
      presentSession(
        await lifecycle.startSandbox(params.id, {
          ...callOptions(caller!.id, query.wait_ms),
          ...(version === undefined ? {} : { version }),
        }),
      ),
  );

  app.post(
    '/sessions/:id/stop',
    {
      schema: {
        tags,
        summary: 'End what runs, save the files, then destroy the sandbox; a stopped session stays as it is',
        params: schemas.SessionParams,
        querystring: schemas.WaitQuery,
        body: schemas.SessionStop,
        response: json(schemas.Session, 'The session, stopped where wait_ms allowed it'),
      },
      preValidation: bodyIsOptional,
    },
    async ({ params, query, body: { grace_ms, discard_unsaved }, caller }) =>
      presentSession(
        await manager.destroySandbox(params.id, {
          ...callOptions(caller!.id, query.wait_ms),
          ...(grace_ms === undefined ? {} : { graceMs: grace_ms }),
          ...(discard_unsaved === undefined ? {} : { discardUnsaved: discard_unsaved }),
        }),
      ),
  );

  app.post(
    '/sessions/:id/save',
    {
      schema: {
        tags,
        summary: 'Save the files now',
        params: schemas.SessionParams,
        response: json(schemas.SaveResult, 'The version that now holds the files'),
      },
    },
    async (request) => {
      const { sandbox } = await manager.link(request.params.id);
      return files.save(sandbox);
    },
  );

  app.get(
    '/sessions/:id/unsaved',
    {
      schema: {
        tags,
        summary: 'What would be lost if the sandbox went now',
        params: schemas.SessionParams,
        response: json(schemas.Unsaved, 'What the newest saved version does not have'),
      },
    },
    async (request) => files.unsaved((await linkToRead(manager, request.params.id)).sandbox),
  );

  app.get(
    '/sessions/:id/rescue',
    {
      schema: {
        tags,
        summary: 'The files as they are in the sandbox, though they can not be saved',
        params: schemas.SessionParams,
        response: bytes('All of /workspace as a tar', TAR),
      },
    },
    async (request, reply) => {
      const { sandbox } = await linkToRead(manager, request.params.id);
      const { body } = await files.rescue(sandbox);
      // A client that left while the agent was asked takes nothing.
      if (reply.raw.destroyed) body.destroy();
      return reply.type(TAR).header('cache-control', 'no-store').send(body);
    },
  );

  app.get(
    '/sessions/:id/events',
    {
      schema: {
        tags,
        summary: 'What happened to a session, oldest first',
        params: schemas.SessionParams,
        querystring: schemas.PageQuery,
        response: json(schemas.SessionEventPage, 'A page of events'),
      },
    },
    async ({ params, query }) => {
      await manager.getSandbox(params.id);
      return page(query, 'number', (wanted) => store.listSessionEvents(params.id, wanted), presentEvent);
    },
  );
}

const TAR = 'application/x-tar';

/** So that a call without a body has one in which nothing is set. */
async function bodyIsOptional(request: FastifyRequest): Promise<void> {
  request.body ??= {};
}

function callOptions(keyId: string, waitMs: number | undefined): CallOptions {
  return { actor: `api:${keyId}`, ...(waitMs === undefined ? {} : { waitMs }) };
}
