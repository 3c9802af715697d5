import { createHmac, timingSafeEqual } from 'node:crypto';

/** Claims of a signed URL, as Supabase Storage makes them. Times are seconds since 1970. */
export interface UrlClaims {
  /** `<bucket>/<key>`. */
  url: string;
  /** Only on upload tokens. */
  scope?: 'upload';
  upsert?: boolean;
  iat: number;
  exp: number;
}

const HEADER = Buffer.from(JSON.stringify({ alg: 'HS256', typ: 'JWT' })).toString('base64url');

export function signToken(claims: UrlClaims, secret: string): string {
  const signed = `${HEADER}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}`;
  return `${signed}.${hmac(signed, secret).toString('base64url')}`;
}

/** The claims; `undefined` when the token is not ours or was changed. Says nothing about expiry. */
export function verifyToken(token: string, secret: string): UrlClaims | undefined {
  const [head, claims, signature, ...rest] = token.split('.');
  // Only our own header is accepted, so `alg: none` and other algorithms never reach the comparison.
  if (head !== HEADER || !claims || !signature || rest.length > 0) return undefined;
  const expected = hmac(`${head}.${claims}`, secret);
  const given = Buffer.from(signature, 'base64url');
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
  return JSON.parse(Buffer.from(claims, 'base64url').toString('utf8')) as UrlClaims;
}

function hmac(text: string, secret: string): Buffer {
  return createHmac('sha256', secret).update(text).digest();
}
