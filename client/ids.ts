import { randomBytes } from 'node:crypto';

/** An id that sorts by time: 9 characters of milliseconds, 11 of chance (56 bits); lower-case letters and digits. */
export function newId(): string {
  const chance = BigInt(`0x${randomBytes(7).toString('hex')}`);
  return Date.now().toString(36).padStart(9, '0') + chance.toString(36).padStart(11, '0');
}
