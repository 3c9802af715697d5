import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { header, json, type Reply, ReplyError } from './http.ts';

export type Role = 'anon' | 'service_role';

export interface AccessKeys {
  /** `sb_secret_…`: acts as `service_role`. */
  secretKey: string;
  /** `sb_publishable_…`: acts as `anon`. */
  publishableKey: string;
}

/** 401 in the form of the hosted gateway: `{ message, hint }`. */
export class AccessError extends ReplyError {
  override readonly name = 'AccessError';
  readonly hint: string;

  constructor(message: string, hint: string) {
    super(message);
    this.hint = hint;
  }

  toReply(): Reply {
    // Storage clients look at `statusCode`, REST clients at `code`; the hosted gateway sends neither.
    return json(401, { message: this.message, hint: this.hint, statusCode: '401', code: 'unauthorized' });
  }
}

/**
 * The Postgres role that a request's keys stand for.
 *
 * As on the hosted platform (Supabase docs, "API keys"): `apikey` decides; a bearer token that is no JWT must equal it; a
 * secret key from a browser is refused.
 */
export function roleOfRequest(request: IncomingMessage, keys: AccessKeys): Role {
  const apiKey = header(request, 'apikey');
  const bearer = /^Bearer\s+(.*)$/i.exec(header(request, 'authorization') ?? '')?.[1];
  if (!apiKey) throw new AccessError('No API key found in request', 'No `apikey` request header was found.');
  const role = roleOfKey(apiKey, keys);
  if (bearer !== undefined && !same(bearer, apiKey)) {
    throw isJwt(bearer)
      ? jwtRefused()
      : new AccessError(
          'Invalid API key',
          'The bearer token is neither a JWT nor equal to the `apikey` header.',
        );
  }
  if (role === 'service_role' && /^Mozilla\//.test(header(request, 'user-agent') ?? '')) {
    throw new AccessError(
      'Forbidden use of secret API key in browser',
      'Secret API keys can only be used on a server.',
    );
  }
  return role;
}

function roleOfKey(key: string, keys: AccessKeys): Role {
  if (same(key, keys.secretKey)) return 'service_role';
  if (same(key, keys.publishableKey)) return 'anon';
  if (isJwt(key)) throw jwtRefused();
  throw new AccessError(
    'Invalid API key',
    'The key belongs to another project, or the state directory was made anew.',
  );
}

function jwtRefused(): AccessError {
  return new AccessError(
    'JWT keys are not supported by the local Supabase stand-in',
    'Use its sb_secret_… or sb_publishable_… key as SUPABASE_SERVICE_ROLE_KEY.',
  );
}

function isJwt(value: string): boolean {
  return /^[\w-]+\.[\w-]+\.[\w-]*$/.test(value);
}

/** Hashed first, so that neither the length nor the place of the first difference shows in the time it takes. */
function same(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}
