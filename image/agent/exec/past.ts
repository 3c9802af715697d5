import type { ExecInfo } from '../../../controller/agents/wire.ts';
import type { Followed } from './follow.ts';
import { type ExecEnd, hashOf, type PastRecord } from './journal.ts';
import type { Cursor } from './spool.ts';

/** An exec of an earlier agent in this machine. It has ended, of itself or with that agent, and its output is no longer there. */
export class PastExec implements Followed {
  readonly id: string;
  readonly pid = 0;
  readonly startedAt: number;
  readonly now: () => number;
  readonly end: ExecEnd;
  readonly stdout: LostOutput;
  readonly stderr: LostOutput;
  readonly following = new Set<Promise<unknown>>();
  readonly #record: PastRecord;

  /** `reason`: why that agent ended. */
  constructor(record: PastRecord, reason: string, now: () => number) {
    this.id = record.id;
    this.startedAt = record.startedAt;
    this.now = now;
    this.#record = record;
    this.end = record.end ?? {
      type: 'end',
      result: { kind: 'machine_lost', reason },
      stdout_bytes: 0,
      stderr_bytes: 0,
      duration_ms: Math.max(0, now() - record.startedAt),
    };
    this.stdout = new LostOutput(this.end.stdout_bytes);
    this.stderr = new LostOutput(this.end.stderr_bytes);
  }

  isOf(key: string): boolean {
    return this.#record.key === hashOf(key);
  }

  info(): ExecInfo {
    const { result, stdout_bytes, stderr_bytes, oom_killed } = this.end;
    return {
      id: this.id,
      state: 'ended',
      pid: this.pid,
      started_at: this.startedAt,
      ended_at: this.#record.endedAt ?? this.startedAt + this.end.duration_ms,
      result,
      ...(oom_killed ? { oom_killed: true } : {}),
      stdout_bytes,
      stderr_bytes,
    };
  }

  changed = async (): Promise<void> => {};
  notify(): void {}
  relieve(): void {}
}

/** A stream all of whose bytes were dropped. */
class LostOutput {
  readonly start: number;
  readonly end: number;
  readonly closed = true;

  constructor(bytes: number) {
    this.start = bytes;
    this.end = bytes;
  }

  attach(from: number, now: number): Cursor {
    return { position: Math.min(from, this.end), movedAt: now };
  }

  detach(): void {}

  read(): undefined {
    return undefined;
  }
}
