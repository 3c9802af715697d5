import { createHash } from 'node:crypto';

/** The tokens of an `Authorization` header: Fly takes `Bearer` and `FlyV1`, and several with commas between. */
export function tokensOfHeader(header: string | undefined): string[] {
  const [, rest] = /^(?:Bearer|FlyV1)\s+(.+)$/i.exec(header ?? '') ?? [];
  return rest === undefined ? [] : separateTokens(rest);
}

/** `fly tokens create` prints the scheme as part of what may be several tokens. */
export function separateTokens(text: string): string[] {
  const bare = text.trim().replace(/^FlyV1\s+/i, '');
  return bare.split(',').flatMap((token) => token.trim() || []);
}

/** Records hold this instead of the token. */
export function sha256Hex(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
