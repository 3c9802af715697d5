import { createHash } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { CodedError } from '../errors.ts';
import type { ApiStore } from './deps.ts';

/** The routes that answer without a key. Every other one, and whatever is added later, needs one. */
export const PUBLIC_ROUTES: ReadonlySet<string> = new Set([
  'GET /healthz',
  'GET /readyz',
  'GET /metrics',
  'GET /openapi.json',
]);

/** How long a good answer of the database stands; a revoked key works at most so long. */
const CACHE_MS = 30_000;
const CACHE_KEYS = 1_000;
/** A key that was good stands for so long while the database is away, so that work in open sandboxes goes on ... */
const AWAY_MS = 600_000;
/** ... without asking it anew, and waiting for its deadline, at each request. */
const ASK_AGAIN_MS = 5_000;

export interface Caller {
  /** Id of the API key. */
  id: string;
}

/** Says who sent a request, or throws `unauthorized`. Keys are looked up by their SHA-256 and never kept themselves. */
export function createAuthenticator(store: Pick<ApiStore, 'checkApiKey'>, clock: () => number) {
  const known = new Map<string, { caller: Caller; until: number; lastGood: number }>();

  return async function authenticate(request: FastifyRequest): Promise<Caller> {
    const key = bearerKey(request.headers.authorization);
    const sha256 = createHash('sha256').update(key).digest('hex');
    const hit = known.get(sha256);
    if (hit !== undefined && hit.until > clock()) return hit.caller;
    let found: Awaited<ReturnType<typeof store.checkApiKey>>;
    try {
      found = await store.checkApiKey(sha256);
    } catch (error) {
      const isAway = error instanceof CodedError && error.code === 'database_unavailable';
      if (!isAway || hit === undefined || clock() - hit.lastGood >= AWAY_MS) throw error;
      hit.until = clock() + ASK_AGAIN_MS;
      return hit.caller;
    }
    known.delete(sha256);
    if (found === null) throw new CodedError('unauthorized', 'The API key is not known or was revoked');
    if (known.size >= CACHE_KEYS) known.delete(known.keys().next().value!);
    const caller = { id: found.id };
    known.set(sha256, { caller, until: clock() + CACHE_MS, lastGood: clock() });
    return caller;
  };
}

function bearerKey(header: string | undefined): string {
  if (header === undefined) {
    throw new CodedError('unauthorized', 'Send the API key as "Authorization: Bearer mvk_…"', {
      field: 'authorization',
    });
  }
  const key = /^Bearer (mvk_[A-Za-z0-9_-]{8,200})$/i.exec(header)?.[1];
  if (key === undefined) {
    throw new CodedError('unauthorized', 'The authorization header is not "Bearer mvk_…"', {
      field: 'authorization',
    });
  }
  return key;
}
