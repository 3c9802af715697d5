import { createHash, randomBytes } from 'node:crypto';
import { CodedError } from '../errors.ts';

/**
 * The id of what a creating call makes: the caller's own, one derived from its `Idempotency-Key` (so that a repeat finds what
 * the first made), or a new one that sorts by time.
 */
export function chooseId(own: string | undefined, idempotencyKey: unknown, clock: () => number): string {
  if (own !== undefined) return own;
  if (idempotencyKey === undefined) return newId(clock());
  if (typeof idempotencyKey !== 'string' || !/^[\x21-\x7e]{1,255}$/.test(idempotencyKey)) {
    throw new CodedError('invalid_request', 'Idempotency-Key must be 1 to 255 visible ASCII characters', {
      field: 'idempotency-key',
    });
  }
  return `i-${createHash('sha256').update(idempotencyKey).digest('hex').slice(0, 32)}`;
}

/** 20 lower-case letters and digits: 9 of time, 11 of chance (56 bits). */
function newId(now: number): string {
  const chance = randomBytes(7).reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
  return now.toString(36).padStart(9, '0') + chance.toString(36).padStart(11, '0');
}
