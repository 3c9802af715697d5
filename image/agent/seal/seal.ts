import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SealRequest, SealResult } from '../../../controller/agents/wire.ts';
import type { ExecTable } from '../exec/table.ts';
import { Fault } from '../fault.ts';
import { log, messageOf } from '../log.ts';
import type { UserProcesses } from '../user/quiet.ts';
import type { Gate } from './gate.ts';

/** A reader that takes nothing does not hold up the stop. */
const TELL_MOST_MS = 5_000;

export interface SealParts {
  gate: Gate;
  processes: UserProcesses;
  execs: ExecTable;
  stateDir: string;
  /** The sandbox's fencing token. */
  fence: number;
}

/** The end of all work in this sandbox. Once it is taken nothing changes any more but by processes that are being ended. */
export class Seal {
  readonly #parts: SealParts;
  readonly #path: string;
  #fence: number;
  #sealing: Promise<SealResult> | undefined;

  /** A sandbox that was sealed stays so when its agent is started again. */
  constructor(parts: SealParts) {
    this.#parts = parts;
    this.#path = join(parts.stateDir, 'sealed');
    this.#fence = parts.fence;
    if (!existsSync(this.#path)) return;
    this.#fence = Math.max(this.#fence, Number(readFileSync(this.#path, 'utf8')) || 0);
    void parts.gate.close();
  }

  /** Settles when no process of the user's is left and those who follow execs know. Repeated it joins, or answers the same. */
  async take({ fence, grace_ms }: SealRequest): Promise<SealResult> {
    if (fence < this.#fence) {
      throw new Fault('fenced', `The fence is ${fence}; ${this.#fence} was seen`, { field: 'fence' });
    }
    this.#fence = fence;
    this.#remember();
    this.#sealing ??= this.#seal(grace_ms);
    this.#sealing.catch(() => {
      this.#sealing = undefined;
    });
    return this.#sealing;
  }

  async #seal(graceMs: number): Promise<SealResult> {
    const { gate, processes, execs } = this.#parts;
    await gate.close();
    execs.markStopped();
    const ended = await processes.end(graceMs);
    await execs.told(TELL_MOST_MS);
    log('info', 'sealed', { ...ended });
    return ended;
  }

  #remember(): void {
    try {
      writeFileSync(this.#path, String(this.#fence), { mode: 0o600 });
    } catch (error) {
      log('warn', 'an agent after this one would not know of the seal', { detail: messageOf(error) });
    }
  }
}
