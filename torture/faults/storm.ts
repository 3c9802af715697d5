import { pause } from '../pause.ts';
import type { World } from '../world/world.ts';
import type { Fault } from './schedule.ts';
import { type OldVersions, type Struck, strike } from './strike.ts';

/** A fault as it was; times are Unix milliseconds. */
export interface FaultRecord {
  kind: Fault['kind'];
  target: string;
  from: number;
  to: number;
}

/** Lets the faults strike at their times, side by side. Resolves when the last is over and every part is up. */
export class Storm {
  readonly records: FaultRecord[] = [];
  readonly #world: World;
  readonly #old: OldVersions;

  constructor(world: World, old: OldVersions) {
    this.#world = world;
    this.#old = old;
  }

  async run(faults: readonly Fault[], seconds: number, over: AbortSignal): Promise<void> {
    const began = Date.now();
    await Promise.all([...faults.map((fault) => this.#one(fault, began, over)), pause(seconds * 1000, over)]);
    await this.clear();
  }

  /** Everything that was killed runs again. */
  async clear(): Promise<void> {
    await this.#world.supabase.revive();
    await this.#world.fly.revive();
    await Promise.all(this.#world.controllers.map(({ part }) => part.revive()));
  }

  async #one(fault: Fault, began: number, over: AbortSignal): Promise<void> {
    await pause(began + fault.at - Date.now(), over);
    if (over.aborted) return;
    const from = Date.now();
    const struck: Struck = await strike(this.#world, fault, this.#old).catch((error: Error) => ({
      target: `nothing: ${error.message}`,
      heal: async () => {},
    }));
    if (struck.target === undefined) return;
    const record: FaultRecord = {
      kind: fault.kind,
      target: struck.target,
      from,
      to: Number.POSITIVE_INFINITY,
    };
    this.records.push(record);
    await pause(began + fault.at + fault.lasts - Date.now(), over);
    await struck.heal();
    record.to = Date.now();
  }
}
