import type { MachineConfig, MachineRecord, MachineState } from '../wire.ts';
import {
  cannotDestroy,
  cannotDo,
  cannotStart,
  type FlyError,
  failedPrecondition,
  notRunning,
} from './errors.ts';

export type Verb = 'start' | 'stop' | 'suspend' | 'restart' | 'signal' | 'exec' | 'update' | 'destroy';

/** From which states a call is legal (Fly docs, machines/machine-states, and what the live API was measured to refuse). */
const legal: Record<Verb, readonly MachineState[]> = {
  start: ['stopped', 'suspended', 'suspending', 'failed'],
  stop: [
    'created',
    'starting',
    'started',
    'suspending',
    'suspended',
    'stopping',
    'stopped',
    'failed',
    'restarting',
  ],
  suspend: ['started'],
  restart: ['started', 'stopped'],
  signal: ['started', 'stopping'],
  exec: ['started'],
  update: ['created', 'starting', 'started', 'stopping', 'stopped', 'restarting', 'suspended', 'failed'],
  destroy: ['created', 'stopped', 'suspended', 'failed', 'destroying', 'destroyed'],
};

/**
 * Why `verb` is refused for the machine now; null when it is allowed. `force` matters to destroy alone.
 * A `created` machine may be started only when it was made with `skip_launch`: otherwise its first boot is under way.
 */
export function refusal(
  verb: Verb,
  machine: Pick<MachineRecord, 'state' | 'prepared'>,
  force = false,
): FlyError | null {
  const { state, prepared } = machine;
  if (verb === 'destroy') return force || legal.destroy.includes(state) ? null : cannotDestroy();
  if (verb === 'start' && state === 'created' && prepared) return null;
  if (legal[verb].includes(state)) return null;
  if (verb === 'start') return cannotStart(state);
  if (verb === 'exec' || verb === 'signal') return notRunning(state);
  return cannotDo(verb, state);
}

const maxSuspendMemoryMb = 2_048;

/** Memory up to 2 GB and no swap (Fly docs, reference/suspend-resume; the words are ours, Fly's are not documented). */
export function suspendRefusal({ guest, init }: Pick<MachineConfig, 'guest' | 'init'>): FlyError | null {
  if (guest.memory_mb > maxSuspendMemoryMb) {
    return failedPrecondition(
      `unable to suspend machine with ${guest.memory_mb} MB of memory, above 2048 MB`,
    );
  }
  return init.swap_size_mb ? failedPrecondition('unable to suspend machine with swap') : null;
}

/** States in which a machine stays by itself; a newborn one that is still to boot is only passing through `created`. */
export function isSettled(machine: Pick<MachineRecord, 'state' | 'prepared'>): boolean {
  if (machine.state === 'created') return machine.prepared;
  return ['started', 'stopped', 'suspended', 'failed', 'destroyed'].includes(machine.state);
}
