import { lstatSync, readlinkSync, type Stats } from 'node:fs';
import type { FileStat } from '../../../controller/agents/wire.ts';

/** What is at a place; of a symlink itself. Throws an errno where there is nothing. */
export function statAt(at: string, path: string): FileStat {
  const stat = lstatSync(at);
  return stat.isSymbolicLink()
    ? { ...toFileStat(stat, path), target: readlinkSync(at) }
    : toFileStat(stat, path);
}

export function toFileStat(stat: Stats, path: string): FileStat {
  return {
    path,
    type: typeOf(stat),
    size: stat.size,
    mode: stat.mode & 0o7777,
    mtime_ms: Math.trunc(stat.mtimeMs),
  };
}

function typeOf(stat: Stats): FileStat['type'] {
  if (stat.isFile()) return 'file';
  if (stat.isDirectory()) return 'directory';
  return stat.isSymbolicLink() ? 'symlink' : 'other';
}
