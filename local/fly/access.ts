import type { FastifyRequest } from 'fastify';
import type { Action } from './actions.ts';
import type { Core } from './core.ts';
import type { Params } from './routes/request.ts';
import { appForbidden, orgForbidden, unauthorized } from './rules/errors.ts';
import { type Reach, reachesApp, reachesOrg, reachesSomeOrg } from './rules/reach.ts';
import { separateTokens, sha256Hex, tokensOfHeader } from './rules/tokens.ts';
import type { AppRecord } from './wire.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What the call is about is in its body: its handler checks the reach. */
    checksReach?: boolean;
  }
  interface FastifyRequest {
    reach: Reach;
  }
}

/** A token as `fly tokens create org` makes it; a text alone is one for every organisation, as a person's own. */
export type GivenToken = string | { token: string; org: string };

/** Reads what the caller's tokens are good for; throws 401 when none of them is valid. */
export function reachReader({ apps, clock }: Pick<Core, 'apps' | 'clock'>, given: readonly GivenToken[]) {
  const ofEveryOrg = new Set<string>();
  const orgOf = new Map<string, string>();
  for (const one of given) {
    const { token, org } = typeof one === 'string' ? { token: one, org: undefined } : one;
    for (const hash of separateTokens(token).map(sha256Hex)) {
      if (org === undefined) ofEveryOrg.add(hash);
      else orgOf.set(hash, org);
    }
  }
  const appsOf = (hash: string): string[] =>
    apps
      .all()
      .filter(({ deploy_tokens }) =>
        deploy_tokens.some(
          ({ sha256, expires_at, revoked_at }) =>
            sha256 === hash && expires_at > clock.now() && revoked_at === undefined,
        ),
      )
      .map(({ name }) => name);

  return (header: string | undefined): Reach => {
    const hashes = tokensOfHeader(header).map(sha256Hex);
    if (hashes.some((hash) => ofEveryOrg.has(hash))) return { orgs: 'all', apps: new Set() };
    const reach = {
      orgs: new Set(hashes.flatMap((hash) => orgOf.get(hash) ?? [])),
      apps: new Set(hashes.flatMap(appsOf)),
    };
    if (reach.orgs.size + reach.apps.size === 0) throw unauthorized();
    return reach;
  };
}

/** Throws 403 when what the path names is out of the caller's reach. */
export function checkPath(core: Pick<Core, 'apps'>, request: FastifyRequest): void {
  const { reach, routeOptions } = request;
  const { action, checksReach } = routeOptions.config;
  const { app, org } = request.params as Partial<Params>;
  const known = core.apps.all().find(({ name }) => name === app);
  if (checksReach) return;
  if (org !== undefined) checkOrg(reach, org);
  else if (known !== undefined) checkApp(reach, known, action);
  else if (!reachesSomeOrg(reach)) throw appForbidden(app ?? '');
}

export function checkApp(reach: Reach, app: AppRecord, action?: Action): void {
  if (!reachesApp(reach, app)) throw appForbidden(app.name);
  // Who may only work in an app neither ends it nor lets others in.
  if (action === 'app.delete' || action === 'app.deploy_token') checkOrg(reach, app.org_slug);
}

export function checkOrg(reach: Reach, slug: string): void {
  if (!reachesOrg(reach, slug)) throw orgForbidden(slug);
}
