import type { FastifyInstance, FastifyRequest } from 'fastify';
import { checkPath, type GivenToken, reachReader } from './access.ts';
import type { Core } from './core.ts';
import type { AnswerFault, Target } from './faults.ts';
import type { Params } from './routes/request.ts';
import { rateLimited } from './rules/errors.ts';
import { isObject } from './rules/json.ts';
import { RateLimiter } from './rules/rates.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Met by this call after its work was done. */
    faultAfterwards: AnswerFault | undefined;
  }
}

/** What every call goes through: a request id, the token, the rate limit, and faults that a test switched on. */
export function guardCalls(
  server: FastifyInstance,
  core: Core,
  { tokens, rateLimits = true }: { tokens: readonly GivenToken[]; rateLimits?: boolean },
): void {
  const readReach = reachReader(core, tokens);
  const limiter = new RateLimiter();
  server.decorateRequest('reach');
  server.decorateRequest('faultAfterwards', undefined);

  server.addHook('onRequest', async (request, reply) => {
    reply.header('fly-request-id', `${core.ids.ulid()}-local`);
    const { action } = request.routeOptions.config;
    // The list of regions is public on Fly as well.
    if (action !== 'platform.regions') {
      request.reach = readReach(request.headers.authorization);
      checkPath(core, request);
    }
    if (!rateLimits || !action) return;
    const { app, machine, org } = request.params as Partial<Params>;
    const perOrg = action === 'app.delete' || action === 'app.create';
    const target = perOrg ? '' : (machine ?? app ?? org ?? '');
    // Taking a lease and giving it back are two actions (superfly/fly-go names them apart), as are other methods of one path.
    if (!limiter.allows(action, `${request.method} ${target}`, core.clock.now())) throw rateLimited();
  });

  server.addHook('preHandler', async (request) => {
    const { action } = request.routeOptions.config;
    const fault = action && core.faults.takeAnswer(action, targetOf(core, request));
    if (!fault) return;
    if (!fault.lost && !fault.done) throw fault.error;
    request.faultAfterwards = fault;
  });

  server.addHook('onSend', async (request, reply, payload) => {
    const fault = request.faultAfterwards;
    if (!fault) return payload;
    if (fault.lost) {
      request.raw.socket.destroy();
      return payload;
    }
    reply.code(fault.error.status).header('content-type', 'application/json').removeHeader('content-length');
    return JSON.stringify(fault.error.body);
  });
}

function targetOf(core: Core, request: FastifyRequest): Target {
  const { app, machine } = request.params as Partial<Params>;
  const known =
    app && machine ? core.fleet.ofApp(app).find(({ record }) => record.id === machine) : undefined;
  const given =
    isObject(request.body) && typeof request.body.name === 'string' ? request.body.name : undefined;
  return { app, machine, name: known?.record.name ?? given, method: request.method };
}
