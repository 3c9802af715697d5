import { createHmac, timingSafeEqual } from 'node:crypto';

/**
 * The token of the agent in one sandbox: `<sandbox>.<hex HMAC-SHA256(secret, sandbox)>`. It is derived and not stored, so that a
 * controller that crashed between the row and the call gives the same machine the same token.
 */
export function agentToken(secret: string, sandbox: string): string {
  return `${sandbox}.${mac(secret, sandbox).toString('hex')}`;
}

/** The sandbox that the token was made for, or undefined. Takes the same time for every wrong MAC. */
export function verifyAgentToken(secret: string, token: string): string | undefined {
  const parts = /^(s-[a-z0-9-]{1,80})\.([0-9a-f]{64})$/.exec(token);
  if (parts === null) return undefined;
  const [, sandbox, hex] = parts as unknown as [string, string, string];
  return timingSafeEqual(mac(secret, sandbox), Buffer.from(hex, 'hex')) ? sandbox : undefined;
}

/** The sandbox whose agent sent this `Authorization` header, or undefined. */
export function sandboxOfBearer(secret: string, authorization: string | undefined): string | undefined {
  const token = /^Bearer (\S{1,300})$/.exec(authorization ?? '')?.[1];
  return token === undefined ? undefined : verifyAgentToken(secret, token);
}

function mac(secret: string, sandbox: string): Buffer {
  return createHmac('sha256', secret).update(sandbox).digest();
}
