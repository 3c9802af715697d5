import { createHash, timingSafeEqual } from 'node:crypto';

/** The token of an `Authorization` header; Fly takes `Bearer` and `FlyV1`. Null for anything else. */
export function tokenOfHeader(header: string | undefined): string | null {
  const [, rest] = /^(?:Bearer|FlyV1)\s+(.+)$/i.exec(header ?? '') ?? [];
  return rest ? bareToken(rest) : null;
}

/** `fly tokens create` prints the scheme as part of the token; both forms are the same token. */
export function bareToken(token: string): string {
  return token.trim().replace(/^FlyV1\s+/i, '');
}

export function sha256Hex(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

export function sameHash(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}
