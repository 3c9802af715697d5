import type { Clock } from '../clock.ts';
import { FlyError, waitTimedOut } from '../rules/errors.ts';
import { isReached, stateForWaiter, type Wait } from '../rules/waits.ts';
import type { Machine } from './machine.ts';

/** Resolves as soon as the machine is as wanted; rejects with Fly's 408, or when `signal` says that nobody waits any more. */
export function waitForState(machine: Machine, wait: Wait, clock: Clock, signal: AbortSignal): Promise<void> {
  const { record } = machine;
  if (isReached(wait, record)) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const finish = (error?: FlyError) => {
      unwatch();
      cancel();
      signal.removeEventListener('abort', onAbort);
      if (error) reject(error);
      else resolve();
    };
    const onAbort = () => finish(new FlyError(503, 'local Fly is ending'));
    const unwatch = machine.watch(() => isReached(wait, record) && finish());
    const cancel = clock.after(wait.timeoutMs, () =>
      finish(waitTimedOut(wait.states, stateForWaiter(wait, record))),
    );
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort);
  });
}
