import type { Clock } from '../clock.ts';
import type { Ids } from '../ids.ts';
import type { EventRequest, MachineEvent, MachineRecord, MachineState } from '../wire.ts';

/** `GET …/events` shows at most so many. */
const maxEvents = 50;

export type NewEvent = Pick<MachineEvent, 'type' | 'status' | 'source'> & { request?: EventRequest };

/** Writes one change into the record: its state and the event that says why. The caller saves it. */
export function applyChange(
  record: MachineRecord,
  change: { state?: MachineState; event?: NewEvent },
  { clock, ids }: { clock: Clock; ids: Ids },
): void {
  const now = clock.now();
  if (change.state) record.state = change.state;
  record.updated_at = new Date(now).toISOString();
  if (change.event) {
    record.events = [{ id: ids.ulid(), ...change.event, timestamp: now }, ...record.events].slice(
      0,
      maxEvents,
    );
  }
}
