import { createHash } from 'node:crypto';
import type { ManifestEntry } from '../../../controller/agents/wire.ts';
import type { Beneath } from '../files/beneath.ts';
import { compareBytewise } from '../files/order.ts';
import { type Content, keyOf } from './hashes.ts';
import { type Found, type FoundFile, unlessReadable, walk } from './walk.ts';

/** A run on the workspace: who waits for it, and how it goes. */
export interface Run {
  /** Throws when nobody waits for it any more. */
  stillWanted: () => void;
  /** So many bytes more were read or written, and so many files are done. */
  progress: (bytes: number, files?: number) => void;
}

export interface Look {
  seen: { found: Found; content: Content | undefined }[];
  leftOut: string[];
}

/** Everything that is saved, and what the files hold; `contentOf` says that, or undefined to pass a file over. */
export async function look(
  tree: Beneath,
  contentOf: (file: FoundFile) => Promise<Content | undefined> | Content | undefined,
  stillWanted: () => void,
): Promise<Look> {
  const { found, leftOut } = await walk(tree);
  const seen: Look['seen'] = [];
  for (const each of found) {
    stillWanted();
    if (each.type !== 'file') {
      seen.push({ found: each, content: undefined });
      continue;
    }
    try {
      const content = await contentOf(each);
      if (content !== undefined) seen.push({ found: each, content });
    } catch (error) {
      unlessReadable(error);
    }
  }
  return { seen, leftOut };
}

/** What a manifest says of it, in the order of a manifest. */
export function entriesOf({ seen }: Look): ManifestEntry[] {
  const entries = seen.map(({ found, content }): ManifestEntry => {
    const { path, stat } = found;
    if (found.type === 'symlink') return { path, type: 'symlink', target: found.target };
    const common = { path, mode: stat.mode & 0o7777, mtime_ms: Math.trunc(stat.mtimeMs) };
    return found.type === 'directory'
      ? { type: 'directory', ...common }
      : { type: 'file', ...common, ...content! };
  });
  return entries.sort((a, b) => compareBytewise(a.path, b.path));
}

/**
 * Two looks with the same mark, one after the other, saw the same thing throughout: whatever is changed gets another time of change, which
 * nobody can set back. So what they saw is what there was at the moment between them.
 */
export function markOf({ seen }: Look): string {
  const lines = seen.map(
    ({ found, content }) => `${found.path}\0${found.type} ${keyOf(found.stat)} ${content?.sha256}\n`,
  );
  const sum = createHash('sha256');
  for (const line of lines.sort()) sum.update(line);
  return sum.digest('hex');
}
