import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Core } from './core.ts';
import type { AnswerFault, Target } from './faults.ts';
import type { Params } from './routes/request.ts';
import { forbidden, rateLimited, unauthorized } from './rules/errors.ts';
import { isObject } from './rules/json.ts';
import { RateLimiter } from './rules/rates.ts';
import { bareToken, sameHash, sha256Hex, tokenOfHeader } from './rules/tokens.ts';

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
  { tokens, rateLimits = true }: { tokens: readonly string[]; rateLimits?: boolean },
): void {
  const orgTokens = tokens.map((token) => sha256Hex(bareToken(token)));
  const limiter = new RateLimiter();
  server.decorateRequest('faultAfterwards', undefined);

  server.addHook('onRequest', async (request, reply) => {
    reply.header('fly-request-id', `${core.ids.ulid()}-local`);
    const { action } = request.routeOptions.config;
    // The list of regions is public on Fly as well.
    if (action !== 'platform.regions') authorize(core, orgTokens, request);
    if (!rateLimits || !action) return;
    const { app, machine, org } = request.params as Partial<Params>;
    const perOrg = action === 'app.delete' || action === 'app.create';
    if (!limiter.allows(action, perOrg ? '' : (machine ?? app ?? org ?? ''), core.clock.now()))
      throw rateLimited();
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

/** An org's token may do everything, an app's deploy token what is below its app. */
function authorize(core: Core, orgTokens: readonly string[], request: FastifyRequest): void {
  const token = tokenOfHeader(request.headers.authorization);
  if (!token) throw unauthorized();
  const hash = sha256Hex(token);
  if (orgTokens.some((known) => sameHash(known, hash))) return;
  const now = core.clock.now();
  const holder = core.apps
    .all()
    .find((app) =>
      app.deploy_tokens.some(({ sha256, expires_at }) => expires_at > now && sameHash(sha256, hash)),
    );
  if (!holder) throw unauthorized();
  const { app } = request.params as Partial<Params>;
  if (app !== holder.name) throw forbidden(app ?? '');
}

function targetOf(core: Core, request: FastifyRequest): Target {
  const { app, machine } = request.params as Partial<Params>;
  const known =
    app && machine ? core.fleet.ofApp(app).find(({ record }) => record.id === machine) : undefined;
  const given =
    isObject(request.body) && typeof request.body.name === 'string' ? request.body.name : undefined;
  return { app, machine, name: known?.record.name ?? given, method: request.method };
}
