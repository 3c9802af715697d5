import { Readable } from 'node:stream';
import { checkCommand } from '../../sessions/requests.ts';
import { createdOrFound, json, lines } from '../answers.ts';
import type { ApiDeps } from '../deps.ts';
import { chooseId } from '../ids.ts';
import { jobLogLines } from '../job-logs.ts';
import { page } from '../paging.ts';
import { presentJob } from '../present.ts';
import * as schemas from '../schemas.ts';
import type { StreamSender } from '../streams.ts';
import type { Api } from '../types.ts';

export function jobRoutes(app: Api, { store, jobs, clock }: ApiDeps, sendLines: StreamSender): void {
  const tags = ['jobs'];
  const params = schemas.JobParams;

  app.post(
    '/jobs',
    {
      schema: {
        tags,
        summary: 'Queue a command for a session; safe to repeat with the same id or Idempotency-Key',
        querystring: schemas.NoQuery,
        body: schemas.JobCreate,
        response: createdOrFound(schemas.Job),
      },
    },
    async (request, reply) => {
      const { id, session_id, max_attempts = 3, ...spec } = request.body;
      checkCommand(spec);
      const { job, created } = await store.enqueueJob({
        id: chooseId(id, request.headers['idempotency-key'], clock),
        sessionId: session_id,
        spec,
        maxAttempts: max_attempts,
        actor: `api:${request.caller!.id}`,
      });
      jobs.poke();
      return reply.code(created ? 201 : 200).send(presentJob(job));
    },
  );

  app.get(
    '/jobs',
    {
      schema: {
        tags,
        summary: 'List jobs by id',
        querystring: schemas.JobListQuery,
        response: json(schemas.JobPage, 'A page of jobs'),
      },
    },
    ({ query: { session_id, status, ...paging } }) =>
      page(
        paging,
        'text',
        (query) =>
          store.listJobs({
            ...query,
            ...(session_id === undefined ? {} : { sessionId: session_id }),
            ...(status === undefined ? {} : { status }),
          }),
        presentJob,
      ),
  );

  app.get(
    '/jobs/:id',
    { schema: { tags, summary: 'Look at one job', params, response: json(schemas.Job, 'The job') } },
    async (request) => presentJob(await store.getJob(request.params.id)),
  );

  app.get(
    '/jobs/:id/logs',
    {
      schema: {
        tags,
        summary: 'The output of a job until now, or with follow=1 until it ends',
        params,
        querystring: schemas.JobLogsQuery,
        response: lines(schemas.JobLogEvent, 'Its output, and the job in a last line'),
      },
    },
    async (request, reply) => {
      const job = await store.getJob(request.params.id);
      const follow = request.query.follow === '1';
      return sendLines(
        reply,
        Readable.from(jobLogLines(store, job, { follow, clock }), { objectMode: false }),
      );
    },
  );

  app.post(
    '/jobs/:id/cancel',
    {
      schema: {
        tags,
        summary: 'Cancel a job; a running one is interrupted soon, an ended one stays as it is',
        params,
        response: json(schemas.Job, 'The job'),
      },
    },
    async (request) => {
      const job = await store.cancelJob(request.params.id, `api:${request.caller!.id}`);
      jobs.poke();
      return presentJob(job);
    },
  );
}
