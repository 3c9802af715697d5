import type { Caller, CallOptions } from './call.ts';
import { FlyError, flyError } from './errors.ts';
import { isAbsent } from './gone.ts';
import { path } from './path.ts';
import { object } from './replies.ts';
import { timeoutOf } from './time-limit.ts';
import type { WaitableState, WaitReply } from './types.ts';
import { checkApp, checkId, mistake } from './validate.ts';

export interface WaitOptions extends CallOptions {
  /** Only this version of the machine (`instance_id`); fails when an update supersedes it. */
  version?: string;
  /** The machine was created a moment ago: another of Fly's servers may answer 404 for some seconds. */
  justCreated?: boolean;
}

const STATES: readonly WaitableState[] = [
  'started',
  'stopped',
  'suspended',
  'destroyed',
  'failed',
  'settled',
];
const DEFAULT_TIMEOUT_MS = 60_000;
/** The most that Fly takes; above it answers 400. */
const MAX_WAIT_S = 60;
/** Fly ends a wait at its own time; this much later it counts as not answered. */
const GRACE_MS = 10_000;
const UNKNOWN_YET_MS = 5_000;

/**
 * Waits until the machine is in one of the states, `timeoutMs` at most (default 60 s; beyond Fly's 60 s it
 * asks again). Fly's 408 is part of waiting: it may come early. A missing machine counts as `destroyed` when
 * that is waited for; a missing *app* does not. Rejects with kind `platform`, reason `wait_timeout` when the
 * time is over; the detail says what state was seen last.
 *
 * `started` means that the computer booted, not that anything listens on it.
 */
export async function waitForState(
  caller: Caller,
  app: string,
  id: string,
  wanted: WaitableState | WaitableState[],
  options: WaitOptions,
): Promise<WaitReply> {
  const name = 'waitForState';
  checkApp(name, app);
  checkId(name, id);
  const states = Array.isArray(wanted) ? wanted : [wanted];
  if (states.length === 0 || !states.every((state) => STATES.includes(state))) {
    mistake(name, 'state', wanted, `must be one or several of ${STATES.join(', ')}`);
  }
  const timeoutMs = timeoutOf(name, options.timeoutMs, DEFAULT_TIMEOUT_MS);
  const began = caller.clock();
  const ends = began + timeoutMs;
  const target = `${app}/${id}`;
  let lastWord: string | undefined;

  for (;;) {
    const remainingMs = ends - caller.clock();
    if (remainingMs <= 0) break;
    const seconds = Math.min(MAX_WAIT_S, Math.max(1, Math.floor(remainingMs / 1000)));
    try {
      return await caller.call(
        {
          name,
          effect: 'none',
          method: 'GET',
          path: path`/v1/apps/${app}/machines/${id}/wait`,
          query: { state: states.join(','), timeout: seconds, version: options.version },
          target,
          attemptTimeoutMs: seconds * 1000 + GRACE_MS,
          attempts: Number.POSITIVE_INFINITY,
          // Older replies say only that it worked.
          read: (body) => ({ state: states[0] ?? '', ...object<Partial<WaitReply>>(body) }),
        },
        { signal: options.signal, timeoutMs: remainingMs },
      );
    } catch (error) {
      if (!(error instanceof FlyError)) throw error;
      if (isAbsent(error)) {
        if (states.includes('destroyed')) return { ok: true, state: 'destroyed' };
        if (options.justCreated && caller.clock() - began < UNKNOWN_YET_MS) continue;
        throw error;
      }
      const goesOn =
        error.reason === 'wait_timeout' || (error.kind === 'platform' && error.reason === 'timeout');
      // The turn for another look comes after the time given.
      const isLate = error.kind === 'rate' && error.status === undefined && lastWord !== undefined;
      if (isLate) break;
      if (!goesOn) throw error;
      lastWord = error.detail;
    }
  }
  throw flyError('platform', {
    call: name,
    target,
    reason: 'wait_timeout',
    detail: `not ${states.join(' or ')} within ${timeoutMs} ms: ${lastWord ?? 'Fly has not answered'}`,
  });
}
