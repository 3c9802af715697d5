import { createHash, randomBytes } from 'node:crypto';

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

/**
 * A token that flyctl takes for one of Fly's: it drops what it can't read as a macaroon (superfly/macaroon: MessagePack of a nonce, a
 * location, caveats and a signature). Here the signature is random, and what the token may do is written in the app's record.
 */
export function newMacaroon(): string {
  const bytes = (value: Buffer) => [0xc4, value.length, ...value];
  const location = Buffer.from('https://api.fly.io/v1');
  const nonce = [0x93, ...bytes(randomBytes(16)), ...bytes(randomBytes(16)), 0xc2];
  const noCaveats = 0x90;
  const parts = [...nonce, 0xd9, location.length, ...location, noCaveats, ...bytes(randomBytes(32))];
  return `fm2_${Buffer.from([0x94, ...parts]).toString('base64')}`;
}
