import swagger from '@fastify/swagger';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify';
import { CodedError } from '../errors.ts';
import { createAuthenticator, PUBLIC_ROUTES } from './auth.ts';
import type { ApiDeps } from './deps.ts';
import { forwardToHolder } from './forward.ts';
import { logRequests } from './log.ts';
import { measureRequests } from './metrics.ts';
import { describeApi } from './openapi.ts';
import { answerMalformed, routeNotFound, sendProblem } from './problems.ts';
import { execRoutes } from './routes/execs.ts';
import { fileRoutes } from './routes/files.ts';
import { jobRoutes } from './routes/jobs.ts';
import { platformRoutes } from './routes/platform.ts';
import { sessionRoutes } from './routes/sessions.ts';
import { uploadRoutes } from './routes/uploads.ts';
import { giveUpStalled } from './stalls.ts';
import { createStreamSender } from './streams.ts';
import type { Api } from './types.ts';
import { validatorCompiler } from './validation.ts';

export type { ApiDeps } from './deps.ts';

const JSON_BODY_BYTES = 1024 * 1024;

/**
 * The HTTP API, not listening yet. The caller listens, gives the server's `upgrade` events for `/v1/agent` to the agent hub,
 * and closes it: closing cuts streams of lines (their readers come back elsewhere) and lets other requests finish.
 */
export async function buildApi(deps: ApiDeps): Promise<FastifyInstance> {
  const app = fastify({
    loggerInstance: deps.log as FastifyBaseLogger,
    // One line per request is written by logRequests, without the query string.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: JSON_BODY_BYTES,
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: 500 },
    frameworkErrors: (error, request, reply) => void sendProblem(error, request, reply),
    clientErrorHandler: answerMalformed,
    // Answered by refuseWhileClosing, in the form of all our errors.
    return503OnClosing: false,
  }).withTypeProvider<TypeBoxTypeProvider>() satisfies Api;
  app.setValidatorCompiler(validatorCompiler);
  // Answers are made field by field (present.ts) or come from the agent; schemas only describe them.
  app.setSerializerCompiler(() => JSON.stringify);
  app.setErrorHandler(sendProblem);
  app.decorateRequest('caller', null);
  app.decorateRequest('errorCode', null);
  // JSON is the only body that is read, and uploadRoutes reads none.
  app.removeContentTypeParser('text/plain');

  measureRequests(app, deps.metrics);
  logRequests(app);
  refuseWhileClosing(app);
  giveUpStalled(app);
  requireKey(app, deps);
  const forward = forwardToHolder(app, deps);
  app.setNotFoundHandler(routeNotFound);
  app.addHook('onRoute', ({ method, url, schema }) => {
    if (schema?.response === undefined) throw new Error(`${method} ${url} has no schema`);
  });

  const streams = createStreamSender();
  app.addHook('preClose', async () => streams.cutAll());
  await app.register(swagger, describeApi());
  await app.register(async (api: Api) => platformRoutes(api, deps));
  await app.register(
    async (api: Api) => {
      sessionRoutes(api, deps, forward);
      execRoutes(api, deps, streams.sendLines);
      fileRoutes(api, deps, streams.sendLines);
      jobRoutes(api, deps, streams.sendLines);
      await api.register(async (inner: Api) => uploadRoutes(inner, deps));
    },
    { prefix: '/v1' },
  );
  await app.ready();
  return app as unknown as FastifyInstance;
}

/** A kept connection may bring one more request before it is closed: it had no effect, and its client may go elsewhere. */
function refuseWhileClosing(app: Api): void {
  let closing = false;
  app.addHook('preClose', async () => {
    closing = true;
  });
  app.addHook('onRequest', async () => {
    if (closing) throw new CodedError('shutting_down', 'This controller is shutting down');
  });
}

/** Every route, known or not, needs a key unless it is on the public list. */
function requireKey(app: Api, deps: ApiDeps): void {
  const authenticate = createAuthenticator(deps.store, deps.clock);
  app.addHook('onRequest', async (request) => {
    if (PUBLIC_ROUTES.has(`${request.method} ${request.routeOptions.url}`)) return;
    request.caller = await authenticate(request);
  });
}
