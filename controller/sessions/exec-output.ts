import type { ExecResult } from '../agents/wire.ts';
import type { ExecEnd, ExecProgress } from './exec.ts';

export interface ExecOutcome {
  stdout: string;
  stderr: string;
  /** Null unless the process ended by itself. */
  exit_code: number | null;
  result: ExecResult;
  /** Bytes written, kept or not. */
  stdout_bytes: number;
  stderr_bytes: number;
  /** Something that was written is not in `stdout` or `stderr`. */
  truncated: boolean;
  duration_ms: number;
  /** The kernel killed a process of it for memory. */
  oom_killed: boolean;
}

/** Puts an exec's output together as bytes, so that a character cut in two by an event comes out whole. */
export class OutputCollector {
  readonly #mostBytes: number;
  readonly #streams = {
    stdout: { chunks: [] as Buffer[], bytes: 0, next: 0 },
    stderr: { chunks: [] as Buffer[], bytes: 0, next: 0 },
  };
  #truncated = false;

  /** `mostBytes` of each stream are kept: the first ones. */
  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  add(event: ExecProgress): void {
    if (event.type === 'start') return;
    if (event.type === 'gap') {
      this.#truncated = true;
      this.#streams[event.stream].next = event.to;
      return;
    }
    const stream = this.#streams[event.type];
    const all = Buffer.from(event.data, event.encoding ?? 'utf8');
    const fresh = all.subarray(Math.max(0, stream.next - event.offset));
    stream.next = event.offset + all.length;
    const kept = fresh.subarray(0, Math.max(0, this.#mostBytes - stream.bytes));
    if (kept.length < fresh.length) this.#truncated = true;
    if (kept.length > 0) stream.chunks.push(kept);
    stream.bytes += kept.length;
  }

  outcome(end: ExecEnd): ExecOutcome {
    const { stdout, stderr } = this.#streams;
    return {
      stdout: Buffer.concat(stdout.chunks).toString(),
      stderr: Buffer.concat(stderr.chunks).toString(),
      exit_code: end.result.kind === 'exited' ? end.result.code : null,
      result: end.result,
      stdout_bytes: end.stdout_bytes,
      stderr_bytes: end.stderr_bytes,
      truncated: this.#truncated || end.stdout_bytes > stdout.bytes || end.stderr_bytes > stderr.bytes,
      duration_ms: end.duration_ms,
      oom_killed: end.oom_killed ?? false,
    };
  }
}
