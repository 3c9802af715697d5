import type { Kept, ObserveEntry, SessionHistory } from '../history.ts';
import type { Failure } from './failure.ts';
import type { Promises } from './promises.ts';

const NAMES = {
  sqlite: ['torn_sqlite', 'lost_rows', 'rows'],
  git: ['torn_git', 'lost_commits', 'commits'],
} as const;

/** A database and a repository that were being written are whole, and hold at least what was seen in them before. Pure. */
export function checkWriters({ session, entries }: SessionHistory, promises: Promises): Failure[] {
  const failures: Failure[] = [];
  for (const writer of ['sqlite', 'git'] as const) {
    const [torn, lost, unit] = NAMES[writer];
    const earlier: ObserveEntry[] = [];
    for (const look of entries.filter((entry) => entry.kind === 'observe')) {
      const kept: Kept | undefined = look.seen[writer];
      const where = `seen in sandbox ${look.incarnation} (entry ${look.n})`;
      if (kept?.problem !== undefined)
        failures.push({
          kind: torn,
          session,
          subject: writer,
          look: look.n,
          detail: `${writer}: ${kept.problem}, ${where}`,
        });
      else {
        const owed = Math.max(
          0,
          ...earlier
            .filter((before) => promises.worth(before, look.incarnation, look.sent) === 'must')
            .map((before) => before.seen[writer]?.count ?? 0),
        );
        const count = kept?.count ?? 0;
        if (count < owed)
          failures.push({
            ...{ kind: lost, session, subject: writer, look: look.n },
            detail: `${count} ${unit} are left of ${owed}, ${where}`,
          });
      }
      earlier.push(look);
    }
  }
  return failures;
}
