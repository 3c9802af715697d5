import type { FastifyInstance } from 'fastify';
import type { Core } from '../core.ts';
import { parseGoDuration } from '../rules/durations.ts';
import { invalidArgument } from '../rules/errors.ts';
import { bodyObject, optionalString } from '../rules/json.ts';
import { nearestRegion, regions } from '../rules/regions.ts';
import { newMacaroon, sha256Hex } from '../rules/tokens.ts';
import { appOf } from './request.ts';

/** 20 years: Fly's default. */
const defaultExpiry = '175200h';

export function platformRoutes(server: FastifyInstance, core: Core): void {
  server.get('/v1/platform/regions', { config: { action: 'platform.regions' } }, async () => {
    const rows = regions.map((region) => ({
      ...region,
      gateway_available: true,
      requires_paid_plan: false,
      deprecated: false,
    }));
    // On the wire the names are capital, in the spec small.
    return { Regions: rows, Nearest: nearestRegion, regions: rows, nearest: nearestRegion };
  });

  server.post('/v1/apps/:app/deploy_token', { config: { action: 'app.deploy_token' } }, async (request) => {
    const expiry =
      optionalString(bodyObject(request.body, 'main.createDeployTokenRequest'), 'expiry') ?? defaultExpiry;
    const validMs = parseGoDuration(expiry);
    if (!validMs) throw invalidArgument(`expiry: "${expiry}" is not a duration such as 24h`);
    const app = appOf(core, request);
    const token = newMacaroon();
    const expires_at = core.clock.now() + validMs;
    core.apps.change(app, ({ deploy_tokens }) =>
      deploy_tokens.push({ sha256: sha256Hex(token), expires_at }),
    );
    return { token: `FlyV1 ${token}` };
  });
}
