import { setTimeout } from 'node:timers/promises';
import { DamagedObject, StorageError } from './transfer.ts';

const TRIES = 4;
const FIRST_PAUSE_MS = 1_000;
const PASSING = new Set([408, 423, 425, 429]);

export type StorageCode = 'storage_full' | 'storage_refused' | 'storage_unavailable';

export interface Patience {
  random: () => number;
  signal?: AbortSignal;
  pause?: (ms: number, signal: AbortSignal | undefined) => Promise<void>;
}

/** Whose move it is when an object did not get through. */
export function storageCode(error: unknown): StorageCode {
  if (!(error instanceof StorageError)) return 'storage_unavailable';
  const { status, reason } = error;
  if (status === 402 || status === 413 || status === 507) return 'storage_full';
  if (/quota|too ?large|maximum allowed size/i.test(reason)) return 'storage_full';
  if (status >= 500 || PASSING.has(status)) return 'storage_unavailable';
  return 'storage_refused';
}

/** Whether another try, the `tries`-th is over, may end otherwise. */
export function mayPass(error: unknown, tries: number): boolean {
  if (tries >= TRIES) return false;
  // Cut short or spoilt on its way, perhaps; but most likely it will be the same again.
  if (error instanceof DamagedObject) return error.what !== 'missing' && tries < 2;
  return storageCode(error) === 'storage_unavailable';
}

/** A random part of a limit that doubles: those who failed together don't come back together. */
export function pauseMs(tries: number, random: number): number {
  return random * FIRST_PAUSE_MS * 2 ** (tries - 1);
}

/** Tries again where the storage or the way to it failed, and not the request. */
export async function persist<T>(attempt: () => Promise<T>, patience: Patience): Promise<T> {
  const { random, signal, pause = sleep } = patience;
  for (let tries = 1; ; tries += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (signal?.aborted || !mayPass(error, tries)) throw error;
      await pause(pauseMs(tries, random()), signal);
    }
  }
}

async function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await setTimeout(ms, undefined, signal && { signal });
}
