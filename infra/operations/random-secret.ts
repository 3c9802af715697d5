import { randomBytes } from 'node:crypto';
import { compare, type Difference } from './compare.ts';

export interface RandomSecretInputs {
  /** Of randomness, 16 to 1024. Default 32. A change makes another secret. */
  bytes: number;
  /** Any text; another one makes another secret. */
  rotation?: string;
}

export interface RandomSecretOutputs extends RandomSecretInputs {
  /** Secret; base64url. */
  value: string;
}

export function diff(olds: RandomSecretOutputs, news: RandomSecretInputs): Difference {
  return compare(olds, news, { replace: ['bytes', 'rotation'] });
}

export function create(
  inputs: RandomSecretInputs,
  random: (bytes: number) => Buffer = randomBytes,
): { id: string; outs: RandomSecretOutputs } {
  const { bytes } = inputs;
  if (!Number.isInteger(bytes) || bytes < 16 || bytes > 1024) {
    throw new Error(`bytes must be a whole number from 16 to 1024; it is ${JSON.stringify(bytes)}`);
  }
  return { id: random(8).toString('hex'), outs: { ...inputs, value: random(bytes).toString('base64url') } };
}
