import type { Entry, SessionHistory } from '../history.ts';
import type { SeenMachine } from '../world/ledger.ts';
import { checkExecs } from './execs.ts';
import type { Failure } from './failure.ts';
import { checkFiles } from './files.ts';
import { checkJobs } from './jobs.ts';
import { Promises } from './promises.ts';
import { checkTurns } from './turns.ts';
import { checkWriters } from './writers.ts';

/** Everything that one session's history and events show to be wrong. Pure. */
export function checkSession(history: SessionHistory, machines: readonly SeenMachine[] = []): Failure[] {
  const promises = new Promises(history);
  const failures = [
    ...checkExecs(history, promises),
    ...checkFiles(history, promises),
    ...checkJobs(history, promises),
    ...checkWriters(history, promises),
    ...checkTurns(history, promises, machines),
  ];
  // Each look shows the same again.
  const first = new Map(
    failures.map((failure) => [`${failure.kind} ${failure.subject}`, failure]).reverse() as [
      string,
      Failure,
    ][],
  );
  return failures.filter((failure) => first.get(`${failure.kind} ${failure.subject}`) === failure);
}

/** As few entries of the history as show the same failure, none where it does not rest on them; events stay, they are the API’s own word. Pure. */
export function shortest(
  history: SessionHistory,
  failure: Failure,
  machines: readonly SeenMachine[] = [],
): SessionHistory['entries'] {
  const shows = (entries: SessionHistory['entries']) =>
    checkSession({ ...history, entries }, machines).some(
      ({ kind, subject }) => kind === failure.kind && subject === failure.subject,
    );
  let kept = history.entries;
  if (!shows(kept)) return [];
  const isAbout = (entry: Entry) =>
    entry.n === failure.look ||
    ('id' in entry && entry.id === failure.subject) ||
    ('path' in entry && entry.path === failure.subject);
  for (let size = kept.length >> 1; size >= 1; size >>= 1) {
    for (let at = 0; at < kept.length; ) {
      // What is about the very thing is worth reading, needed or not.
      const without = kept.filter((entry, index) => index < at || index >= at + size || isAbout(entry));
      if (without.length < kept.length && shows(without)) kept = without;
      else at += size;
    }
  }
  return kept;
}
