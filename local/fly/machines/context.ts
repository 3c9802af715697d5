import type { Clock } from '../clock.ts';
import type { Engine, MachineSpec } from '../engine.ts';
import type { Faults } from '../faults.ts';
import type { Ids } from '../ids.ts';
import type { Log } from '../log.ts';
import type { Timings } from '../timings.ts';
import type { MachineRecord } from '../wire.ts';

/** What a machine needs of its surroundings. */
export interface MachineContext {
  readonly engine: Engine;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly timings: Timings;
  readonly faults: Faults;
  readonly log: Log;
  /** Keeps the record; called after every change, before anybody is told of it. */
  save(record: MachineRecord, options?: { durable: boolean }): void;
  /** The machine is destroyed and was shown long enough. */
  forget(id: string): void;
  /** What its next boot takes from its app. */
  surroundings(record: MachineRecord): Pick<MachineSpec, 'env' | 'files' | 'network'>;
  /** Local Fly is ending: what happens to machines now is no longer theirs to react to. */
  isClosing(): boolean;
}
