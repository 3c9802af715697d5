import { type Gate, GateBusy } from '../seal/gate.ts';
import type { UserProcesses } from './processes.ts';

/** How a piece of work went that wanted everything to stand still. */
export interface Quiet<T> {
  value: T;
  /** Nothing has moved from its beginning to its end. */
  atomic: boolean;
  pausedMs: number;
}

export type Quietly = <T>(work: () => Promise<T>, mostMs: number) => Promise<Quiet<T>>;

/**
 * Does something while the user's processes stand still and no file is changed through us: what it reads existed at one moment, as after a
 * power cut. After `mostMs` everything goes on although the work is not done.
 */
export function quietly(gate: Gate, processes: UserProcesses): Quietly {
  return async (work, mostMs) => {
    if (mostMs === 0) return { value: await work(), atomic: processes.count() === 0, pausedMs: 0 };
    const held = await gate.hold(() => still(work, mostMs, processes)).catch(unlessBusy);
    // A change through us that takes too long, say the removal of a large tree: then it is done while that goes on.
    if (held === undefined) return { value: await work(), atomic: false, pausedMs: 0 };
    return { ...held, value: await held.working };
  };
}

async function still<T>(
  work: () => Promise<T>,
  mostMs: number,
  processes: UserProcesses,
): Promise<{ working: Promise<T>; atomic: boolean; pausedMs: number }> {
  const began = performance.now();
  const { complete, thaw } = await processes.freeze();
  try {
    const working = work();
    const inTime = await within(working, mostMs);
    return { working, atomic: complete && inTime, pausedMs: performance.now() - began };
  } finally {
    thaw();
  }
}

function unlessBusy(error: unknown): undefined {
  if (!(error instanceof GateBusy)) throw error;
}

/** Whether the work is done before the time is over. */
async function within(work: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, ms, false);
  });
  const done = work.then(
    () => true,
    () => true,
  );
  return Promise.race([done, late]).finally(() => clearTimeout(timer));
}
