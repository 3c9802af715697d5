import { setTimeout as sleep } from 'node:timers/promises';
import { log, messageOf } from '../log.ts';
import type { UserProcesses } from '../user/quiet.ts';
import type { Gate } from './gate.ts';

/** What came of work that was to be done while nothing changes. */
export interface Paused<T> {
  value: T;
  /** Nothing has changed from its begin to its end. */
  atomic: boolean;
  /** So long the user's processes stood still. */
  pausedMs: number;
}

export interface PauseParts {
  gate: Gate;
  processes: UserProcesses;
  now: () => number;
}

/**
 * Runs work while the user's processes stand still and no change is admitted. After `mostMs`, or when the sandbox is sealed, they go on though
 * the work has not ended. Where they can't be held still the work is done all the same.
 */
export function pauseFor(
  parts: PauseParts,
): <T>(work: () => Promise<T>, mostMs: number) => Promise<Paused<T>> {
  return async (work, mostMs) => {
    // Of a sealed sandbox nothing runs any more.
    if (parts.gate.closed && parts.processes.count() === 0)
      return { value: await work(), atomic: true, pausedMs: 0 };
    if (mostMs <= 0) return { value: await work(), atomic: false, pausedMs: 0 };
    let working: ReturnType<typeof work> | undefined;
    const begin = () => {
      working ??= work();
      return working;
    };
    const held = await parts.gate
      .hold(() => standStill(parts, begin, mostMs))
      .catch((error: unknown) => {
        log('warn', 'the processes of the user could not be held still', { detail: messageOf(error) });
        return { atomic: false, pausedMs: 0 };
      });
    return { value: await begin(), ...held };
  };
}

/** Whether the work came to its end meanwhile. Rejects before it has begun. */
async function standStill(
  { gate, processes, now }: PauseParts,
  begin: () => Promise<unknown>,
  mostMs: number,
): Promise<{ atomic: boolean; pausedMs: number }> {
  const from = now();
  const thaw = await processes.freeze();
  const ended = new AbortController();
  const signal = AbortSignal.any([gate.signal, ended.signal]);
  try {
    const work = begin().then(
      () => true,
      () => true,
    );
    const atomic = await Promise.race([work, sleep(mostMs, false, { signal }).catch(() => false)]);
    return { atomic, pausedMs: now() - from };
  } finally {
    ended.abort();
    await thaw();
  }
}
