import { createFlyClient, FlyError, type TokenInfo } from '../../fly/index.ts';
import { ok, type Verdict, wrong } from './finding.ts';

export const FLY = 'https://api.machines.dev';

export interface AskFly {
  token: string | undefined;
  baseUrl: string;
  /** Of the stack. */
  org: string | undefined;
  timeoutMs: number;
}

/** Whether Fly takes the token, and whether it may do what a stack needs. It only reads. */
export async function flyToken(
  { token, baseUrl, org, timeoutMs }: AskFly,
  signal: AbortSignal,
): Promise<Verdict> {
  const mend = newToken(org);
  if (!token) return wrong('FLY_API_TOKEN is not set', mend);
  const fly = createFlyClient({ token, baseUrl });
  try {
    if (org === undefined) {
      await fly.currentTokens({ signal, timeoutMs });
      return ok('Fly takes the token; no stack says for which organisation (flyOrg)');
    }
    const apps = await fly.listApps(org, { signal, timeoutMs });
    const tokens = await fly.currentTokens({ signal, timeoutMs }).catch(() => undefined);
    return judgeReach(org, apps.length, tokens);
  } catch (error) {
    if (signal.aborted || !(error instanceof FlyError)) throw error;
    return judgeRefusal(error, baseUrl, org);
  } finally {
    fly.close();
  }
}

/** A bundle of tokens may do what any of them may. `tokens` is undefined where Fly does not say. */
export function judgeReach(org: string, apps: number, tokens: TokenInfo[] | undefined): Verdict {
  const lists = `lists ${apps} app${apps === 1 ? '' : 's'} of ${org}`;
  if (tokens === undefined) return ok(`${lists}; whether it may create apps, Fly does not say`);
  const here = tokens.filter(({ org_slug }) => org_slug === undefined || org_slug === org);
  if (here.length === 0) {
    const orgs = tokens.map(({ org_slug }) => org_slug).join(', ');
    return wrong(`the token is for ${orgs || 'no organisation'}, and the stack is for ${org}`, newToken(org));
  }
  if (here.some(({ apps: only, restricted_to_machine }) => !only?.length && !restricted_to_machine)) {
    return ok(`${lists}, and is not limited to single ones`);
  }
  const only = here.flatMap((one) => one.restricted_to_machine ?? one.apps ?? []);
  return wrong(
    `the token is for ${only.join(', ')} alone: it can't create the apps of a stack`,
    newToken(org),
  );
}

export function judgeRefusal(
  { kind, reason, status, detail }: FlyError,
  baseUrl: string,
  org = 'ORG',
): Verdict {
  if (status === 401)
    return wrong('Fly does not know the token (HTTP 401): expired, revoked or cut short', newToken(org));
  if (kind === 'auth') {
    return wrong(
      `the token is not for the organisation ${org} (HTTP ${status}): for a single app, or of another one`,
      newToken(org),
    );
  }
  if (kind === 'not_found') return wrong(`Fly knows no organisation ${org} (HTTP 404)`, 'fly orgs list');
  const why = reason === 'unreachable' ? 'no connection' : detail;
  return wrong(`${baseUrl} does not answer as it should: ${why}`, `curl -sS ${baseUrl}/v1/platform/regions`);
}

/** For a day: pulumi alone needs it, the controller has one of its own. */
function newToken(org = 'ORG'): string {
  return `export FLY_API_TOKEN="$(fly tokens create org -o ${org} -x 24h)"`;
}
