import type { ManifestEntry, Unsaved } from '../../../controller/agents/wire.ts';

const MOST_PATHS = 20;

/** What was changed, added or removed. A directory counts by its mode, not its time, and where nothing in it does. */
export function differenceOf(
  before: ReadonlyMap<string, ManifestEntry>,
  entries: readonly ManifestEntry[],
): Pick<Unsaved, 'files' | 'bytes' | 'paths'> {
  const now = new Set(entries.map(({ path }) => path));
  const gone = [...before.values()].filter(({ path }) => !now.has(path));
  const changed = entries.filter((entry) => differs(before.get(entry.path), entry));
  const different = [...changed, ...gone];
  const holding = new Set(different.map(({ path }) => path.slice(0, Math.max(0, path.lastIndexOf('/')))));
  const counted = different.filter(({ type, path }) => type !== 'directory' || !holding.has(path));
  return {
    files: counted.length,
    bytes: changed.reduce((sum, entry) => sum + (entry.type === 'file' ? entry.size : 0), 0),
    paths: counted.slice(0, MOST_PATHS).map(({ path }) => path),
  };
}

function differs(was: ManifestEntry | undefined, entry: ManifestEntry): boolean {
  if (was?.type === 'symlink' && entry.type === 'symlink') return was.target !== entry.target;
  if (was?.type === 'directory' && entry.type === 'directory') return was.mode !== entry.mode;
  if (was?.type !== 'file' || entry.type !== 'file') return true;
  return was.mode !== entry.mode || was.mtime_ms !== entry.mtime_ms || was.sha256 !== entry.sha256;
}
