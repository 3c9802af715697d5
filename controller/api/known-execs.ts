import type { ExecRow } from '../store/execs.ts';
import type { ExecEvent, ExecInfo } from './schemas.ts';

/** What is told of an exec whose sandbox is gone and whose end was seen: its output went with the sandbox. */
export function infoOfRow({ id, incarnation, started_at, ended_at, end }: ExecRow): ExecInfo {
  const { result, stdout_bytes, stderr_bytes, oom_killed } = end!;
  return {
    id,
    incarnation,
    state: 'ended',
    pid: 0,
    started_at: Date.parse(started_at),
    ended_at: Date.parse(ended_at!),
    result,
    stdout_bytes,
    stderr_bytes,
    ...(oom_killed && { oom_killed }),
  };
}

/** The same as the lines of its stream, for whoever has read this far. */
export function linesOfRow({ end }: ExecRow, from = { stdout: 0, stderr: 0 }): string {
  const gaps = (['stdout', 'stderr'] as const).flatMap((stream): ExecEvent[] => {
    const to = end![`${stream}_bytes`];
    return to > from[stream] ? [{ type: 'gap', stream, from: from[stream], to }] : [];
  });
  return asLines([...gaps, end!]);
}

/** The one line of an exec whose sandbox is gone, and of which nobody saw the end. */
export function linesOfLost(reason: string, from: { stdout: number; stderr: number }): string {
  const result = { kind: 'machine_lost', reason } as const;
  return asLines([
    { type: 'end', result, stdout_bytes: from.stdout, stderr_bytes: from.stderr, duration_ms: 0 },
  ]);
}

const asLines = (events: ExecEvent[]) => events.map((event) => `${JSON.stringify(event)}\n`).join('');
