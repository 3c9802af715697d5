import type { ExecResult } from '../controller/api/schemas.ts';
import type { ExecEnd, OutputChunk } from './follow.ts';

const MAX_OUTPUT_BYTES = 10 * 1024 * 1024;

export interface ExecOutcome {
  stdout: string;
  stderr: string;
  /** Only of a command that ended by itself; null for every other `result`. */
  exitCode: number | null;
  /** How it ended: exited, signaled, timed_out, machine_lost or unknown. */
  result: ExecResult;
  /** Some output is missing from `stdout` or `stderr`: it was longer than is kept. */
  truncated: boolean;
  durationMs: number;
  /** The kernel killed a process of it for memory. */
  oomKilled: boolean;
}

/** The beginning of a stream, as much as is to be kept. */
export class Kept {
  readonly #chunks: Buffer[] = [];
  readonly #onData: ((data: Buffer) => void) | undefined;
  #room: number;
  truncated = false;

  constructor(room = MAX_OUTPUT_BYTES, onData?: (data: Buffer) => void) {
    this.#room = room;
    this.#onData = onData;
  }

  add(chunk: OutputChunk): void {
    if ('lostTo' in chunk) {
      this.truncated = true;
      return;
    }
    this.#onData?.(chunk.data);
    const kept = chunk.data.subarray(0, this.#room);
    if (kept.length < chunk.data.length) this.truncated = true;
    if (kept.length > 0) this.#chunks.push(kept);
    this.#room -= kept.length;
  }

  toString(): string {
    return Buffer.concat(this.#chunks).toString();
  }
}

export function outcome(end: ExecEnd, stdout: Kept, stderr: Kept): ExecOutcome {
  return {
    stdout: String(stdout),
    stderr: String(stderr),
    exitCode: end.result.kind === 'exited' ? end.result.code : null,
    result: end.result,
    truncated: stdout.truncated || stderr.truncated,
    durationMs: end.durationMs,
    oomKilled: end.oomKilled,
  };
}
