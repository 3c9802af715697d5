import { statfsSync } from 'node:fs';

const MOST_TOTAL_BYTES = 1 << 30;
const MOST_STREAM_BYTES = 64 << 20;
const SEGMENT_BYTES = 4 << 20;

/** How much disk the outputs of all execs may use together, and each one. */
export interface SpoolBudget {
  used: number;
  readonly totalBytes: number;
  readonly streamBytes: number;
  readonly segmentBytes: number;
}

/** 64 MiB a stream and 1 GiB in all, but never more than half of what the disk has free. */
export function spoolBudget(dir: string): SpoolBudget {
  const { bavail, bsize } = statfsSync(dir);
  const totalBytes = Math.min(MOST_TOTAL_BYTES, Math.floor((bavail * bsize) / 2));
  const streamBytes = Math.min(MOST_STREAM_BYTES, Math.floor(totalBytes / 4));
  return {
    used: 0,
    totalBytes,
    streamBytes,
    segmentBytes: Math.min(SEGMENT_BYTES, Math.ceil(streamBytes / 8)),
  };
}

/** What one stream may keep now: less while all together use more than they may. */
export function streamLimit(budget: SpoolBudget): number {
  return budget.used > budget.totalBytes ? 2 * budget.segmentBytes : budget.streamBytes;
}
