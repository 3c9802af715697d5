import type { Apps } from './apps.ts';
import type { Clock } from './clock.ts';
import type { Faults } from './faults.ts';
import type { Ids } from './ids.ts';
import type { Log } from './log.ts';
import type { Fleet } from './machines/fleet.ts';
import type { FlyProxy } from './proxy.ts';

/** What routes work with. */
export interface Core {
  readonly apps: Apps;
  readonly fleet: Fleet;
  readonly proxy: FlyProxy;
  readonly faults: Faults;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  /** Aborted when local Fly ends: open waits end then. */
  readonly closing: AbortSignal;
}
