import { rm } from 'node:fs/promises';
import type { PackObject, PackResult } from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';

const KEPT = 2;

/** What an upload needs of a pack run. */
export interface PackSpool {
  dir: string;
  manifestObject: PackObject;
  packs: PackObject[];
  /** Hashes of the objects that the storage has taken. */
  taken: Set<string>;
  /** Somebody asked for an upload though everything had been taken: perhaps the storage has lost it again. */
  doubted?: boolean;
}

export interface PackRun {
  /** Runs with the same key packed the same. */
  key: string;
  spool: PackSpool;
  result: PackResult & { changed: true };
}

/** The last pack runs, until they are uploaded and after. */
export class Spools {
  readonly #runs = new Map<string, PackRun>();

  async add(run: PackRun): Promise<void> {
    this.#runs.set(run.result.pack_id, run);
    for (const [id, { spool }] of [...this.#runs].slice(0, -KEPT)) {
      this.#runs.delete(id);
      await rm(spool.dir, { recursive: true, force: true });
    }
  }

  /** A run whose objects may be used again. */
  find(key: string): PackRun | undefined {
    return [...this.#runs.values()].findLast(
      (run) => run.key === key && run.result.atomic && !run.spool.doubted,
    );
  }

  get(packId: string): PackSpool {
    const run = this.#runs.get(packId);
    if (run !== undefined) return run.spool;
    throw new Fault('invalid_request', `There is no pack run "${packId}" any more`, { field: 'pack_id' });
  }
}
