import type { JobEndEntry, JobEntry, SessionHistory } from '../history.ts';
import type { Failure } from './failure.ts';
import type { Promises } from './promises.ts';

/** Jobs by their lines in `jobs.txt` and by what the API says of them. Pure. */
export function checkJobs(history: SessionHistory, promises: Promises): Failure[] {
  const { session, entries } = history;
  const failures: Failure[] = [];
  const fail = (kind: Failure['kind'], subject: string, detail: string) =>
    failures.push({ kind, session, subject, detail });
  const jobs = new Map<string, JobEntry[]>();
  const ends = new Map<string, JobEndEntry>();
  for (const entry of entries) {
    if (entry.kind === 'job') jobs.set(entry.id, [...(jobs.get(entry.id) ?? []), entry]);
    if (entry.kind === 'job_end' && entry.outcome === 'ack') ends.set(entry.id, entry);
  }
  for (const end of ends.values()) {
    if (
      end.status === 'failed' &&
      /^exited/.test(end.result) &&
      !/^exited (129|130|137|143)$/.test(end.result)
    )
      fail('odd_result', end.id, `Job ${end.id}, which appends a line, ended "${end.result}"`);
  }
  for (const look of entries.filter((entry) => entry.kind === 'observe')) {
    const fail = (kind: Failure['kind'], subject: string, detail: string) =>
      failures.push({ kind, session, subject, detail, look: look.n });
    const where = `seen in sandbox ${look.incarnation} (entry ${look.n})`;
    const counts = new Map<string, number>();
    for (const line of look.seen.jobs) counts.set(line, (counts.get(line) ?? 0) + 1);
    for (const [id, tries] of jobs) {
      const end = ends.get(id);
      for (const line of tries[0]!.lines) {
        const count = counts.get(line) ?? 0;
        counts.delete(line);
        if (count > 1) fail('ran_twice', id, `Line "${line}" of job ${id} is there ${count} times, ${where}`);
        if (count > 0 && tries.every(({ outcome }) => outcome === 'refused'))
          fail('ran_refused', id, `Job ${id} was refused, and its line is there, ${where}`);
        if (count > 0 || end?.status !== 'succeeded') continue;
        const whole = { sent: tries[0]!.sent, ended: end.ended };
        if (promises.worth(whole, look.incarnation, look.sent) === 'must')
          fail('lost_job', id, `Job ${id} succeeded, and its line "${line}" is missing, ${where}`);
      }
    }
    for (const line of counts.keys()) fail('strange_line', line, `Nobody wrote "${line}", ${where}`);
  }
  return failures;
}
