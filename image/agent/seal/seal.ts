import type { SealRequest, SealResult } from '../../../controller/agents/wire.ts';
import type { ExecTable } from '../exec/table.ts';
import { Fault } from '../fault.ts';
import { log } from '../log.ts';
import type { UserProcesses } from '../user/processes.ts';
import type { Gate } from './gate.ts';

export interface SealParts {
  gate: Gate;
  processes: UserProcesses;
  execs: Pick<ExecTable, 'stopping' | 'settled'>;
  /** The fencing token that this agent was started with. */
  fence: number;
}

/**
 * The end of all change in this sandbox. From the moment on that it is asked for nothing new is let in; what was let in before is finished,
 * and then everything that the user runs is ended. It can't be taken back.
 */
export class Seal {
  readonly #parts: SealParts;
  #fence: number;
  #done: Promise<SealResult> | undefined;

  constructor(parts: SealParts) {
    this.#parts = parts;
    this.#fence = parts.fence;
  }

  /** Settles when no process of the user is left. Asked for again it joins, or answers the same. */
  async close({ fence, grace_ms }: SealRequest): Promise<SealResult> {
    if (fence < this.#fence) {
      throw new Fault('fenced', `The fencing token ${fence} is older than ${this.#fence}`, {
        field: 'fence',
      });
    }
    this.#fence = fence;
    this.#done ??= this.#close(grace_ms).catch((error: unknown) => {
      this.#done = undefined;
      throw error;
    });
    return this.#done;
  }

  async #close(graceMs: number): Promise<SealResult> {
    const { gate, processes, execs } = this.#parts;
    log('info', 'sealed', { grace_ms: graceMs });
    await gate.close();
    execs.stopping();
    const ended = await processes.end(graceMs);
    // Who follows an exec is told how it ended before anybody destroys the machine.
    await execs.settled();
    return ended;
  }
}
