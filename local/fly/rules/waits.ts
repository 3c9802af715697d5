import type { MachineRecord, MachineState } from '../wire.ts';
import { invalidArgument, waitTimeoutOutOfRange } from './errors.ts';
import { isSettled } from './states.ts';

const waitable = ['started', 'stopped', 'suspended', 'destroyed', 'failed', 'settled'] as const;
type Waitable = (typeof waitable)[number];

export interface Wait {
  states: Waitable[];
  timeoutMs: number;
  /** Only this version of the machine counts. */
  version?: string;
  /** Only a state reached after this event counts. */
  fromEventId?: string;
}

export interface WaitQuery {
  state?: string | string[];
  timeout?: string;
  version?: string;
  instance_id?: string;
  from_event_id?: string;
}

/** `GET …/wait`: states repeated or comma separated, 1 to 60 seconds. Throws Fly's 400. */
export function parseWait(query: WaitQuery): Wait {
  const states = [query.state ?? 'started'].flat().flatMap((item) => item.split(',')) as Waitable[];
  for (const state of states) {
    if (!waitable.includes(state)) {
      throw invalidArgument(
        `invalid WaitMachineRequest.State: "${state}" is not one of ${waitable.join(', ')}`,
      );
    }
  }
  const seconds = Number(query.timeout ?? 60);
  if (!Number.isInteger(seconds))
    throw invalidArgument(`timeout: "${query.timeout}" is no whole number of seconds`);
  if (seconds < 1 || seconds > 60) throw waitTimeoutOutOfRange();
  return {
    states,
    timeoutMs: seconds * 1_000,
    version: query.version || query.instance_id || undefined,
    fromEventId: query.from_event_id || undefined,
  };
}

type Waited = Pick<MachineRecord, 'state' | 'prepared' | 'instance_id' | 'events'>;

export function isReached(wait: Wait, machine: Waited): boolean {
  if (isReplaced(wait, machine)) return false;
  if (wait.fromEventId && (machine.events[0]?.id ?? '') <= wait.fromEventId) return false;
  return wait.states.some((state) => (state === 'settled' ? isSettled(machine) : state === machine.state));
}

/** The machine's state as the waiter sees it: a version that was superseded is `replaced`. */
export function stateForWaiter(wait: Wait, machine: Waited): MachineState | 'replaced' {
  return isReplaced(wait, machine) ? 'replaced' : machine.state;
}

function isReplaced(wait: Wait, machine: Waited): boolean {
  return wait.version !== undefined && wait.version !== machine.instance_id;
}
