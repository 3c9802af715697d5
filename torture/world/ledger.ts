import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { MachineRecord } from '../../local/fly/wire.ts';

/** A machine as local Fly's own records told of it last; they show it for a minute after its end. */
export type SeenMachine = Pick<
  MachineRecord,
  'id' | 'app' | 'name' | 'state' | 'created_at' | 'events' | 'destroyed_at'
>;

const EVERY_MS = 1_000;

/** Reads local Fly's journal for as long as a run lasts, past its API. */
export class Ledger {
  readonly #folder: string;
  readonly #machines = new Map<string, SeenMachine>();
  #present = new Set<string>();
  readonly #timer: NodeJS.Timeout;

  constructor(flyStateDir: string) {
    this.#folder = join(flyStateDir, 'machines');
    this.#timer = setInterval(() => this.look(), EVERY_MS);
  }

  /** All that were ever seen. */
  get machines(): SeenMachine[] {
    return [...this.#machines.values()];
  }

  /** Those that are not gone. */
  get living(): SeenMachine[] {
    return this.machines.filter(({ id, state }) => this.#present.has(id) && state !== 'destroyed');
  }

  look(): void {
    const present = new Set<string>();
    for (const file of names(this.#folder)) {
      if (!file.endsWith('.json')) continue;
      try {
        const { id, app, name, state, created_at, events, destroyed_at } = JSON.parse(
          readFileSync(join(this.#folder, file), 'utf8'),
        ) as MachineRecord;
        present.add(id);
        this.#machines.set(id, { id, app, name, state, created_at, events, destroyed_at });
      } catch {
        // Removed just now.
      }
    }
    this.#present = present;
  }

  close(): void {
    clearInterval(this.#timer);
    this.look();
  }
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
