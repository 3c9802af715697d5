import type { ObserveEntry, SessionHistory, WriteEntry } from '../history.ts';
import type { Failure } from './failure.ts';
import type { Promises } from './promises.ts';

/** Each path as a register: what is found must be the last write that was promised, or one that may have come after it. Pure. */
export function checkFiles(history: SessionHistory, promises: Promises): Failure[] {
  const { session, entries } = history;
  const failures: Failure[] = [];
  const writes = new Map<string, WriteEntry[]>();
  for (const entry of entries) {
    if (entry.kind !== 'write') continue;
    writes.set(entry.path, [...(writes.get(entry.path) ?? []), entry]);
  }
  for (const look of entries.filter((entry) => entry.kind === 'observe')) {
    const where = `seen in sandbox ${look.incarnation} (entry ${look.n})`;
    for (const [path, ofPath] of writes) {
      const found = look.seen.files[path] ?? null;
      const possible = candidates(ofPath, look, promises);
      if (possible === 'anything' || possible.some(({ value }) => value === found)) continue;
      const owed = possible.map(({ value, n }) => `${value ?? 'nothing'} (entry ${n})`).join(' or ');
      const other = ofPath.find((write) => write.value === found);
      const kind = other?.outcome === 'refused' ? 'wrong_content' : 'lost_write';
      const what = `${found ?? 'nothing'}${other === undefined ? '' : ` (entry ${other.n}, ${other.outcome})`}`;
      failures.push({
        ...{ kind, session, subject: path, look: look.n },
        detail: `${path} holds ${what}, and was to hold ${owed}, ${where}`,
      });
    }
    for (const path of Object.keys(look.seen.files)) {
      if (!writes.has(path))
        failures.push({
          ...{ kind: 'wrong_content', session, subject: path, look: look.n },
          detail: `Nobody wrote ${path}, ${where}`,
        });
    }
  }
  return failures;
}

const NOTHING = { value: null, n: 0 };

function candidates(
  writes: readonly WriteEntry[],
  look: ObserveEntry,
  promises: Promises,
): Pick<WriteEntry, 'value' | 'n'>[] | 'anything' {
  const may = writes.filter(({ outcome, sent }) => outcome !== 'refused' && sent <= look.ended);
  const promised = may.filter(
    (write) => write.outcome === 'ack' && promises.worth(write, look.incarnation, look.sent) === 'must',
  );
  const open = may.filter((write) => {
    const superseded = promised.some((later) => later !== write && comesAfter(later, write, promises));
    return !superseded;
  });
  if (open.some((write) => write.partial === true && !promised.includes(write))) return 'anything';
  return promised.length === 0 ? [NOTHING, ...open] : open;
}

/** A write whose outcome nobody knows may still be under way: only in a later sandbox it is over for certain. */
function comesAfter(later: WriteEntry, write: WriteEntry, promises: Promises): boolean {
  if (write.ended >= later.sent) return false;
  if (write.outcome === 'ack') return true;
  const lifeAt = (time: number) =>
    promises.lives.filter(({ readyAt = Number.POSITIVE_INFINITY }) => readyAt <= time).at(-1)?.incarnation ??
    0;
  const before = promises.lives.find(({ incarnation }) => incarnation === lifeAt(write.ended));
  return before?.goneAt !== undefined && before.goneAt < later.sent;
}
