import { readdirSync } from 'node:fs';
import type { FileStat } from '../../../controller/agents/wire.ts';
import { type Beneath, MAX_PATH_BYTES } from './beneath.ts';
import { compareBytewise } from './order.ts';
import { isOwnName } from './own.ts';
import { statAt } from './stat.ts';

/**
 * What is in a directory, or with `recursive` below it, sorted by path. Never follows a symlink below the first. What lies so deep
 * that no call could name it is left out.
 */
export function* list(tree: Beneath, path: string, recursive: boolean): Generator<FileStat> {
  // The smallest pending path is always next, so the whole is sorted without ever being held.
  const pending = new PathHeap();
  const enter = (directory: string, follow: boolean): string => {
    using place = tree.find(directory, { follow });
    for (const name of readdirSync(`${place.at}/`)) {
      const inner = place.path === '' ? name : `${place.path}/${name}`;
      if (!isOwnName(name) && Buffer.byteLength(inner) <= MAX_PATH_BYTES) pending.push(inner);
    }
    return place.path;
  };
  enter(path, true);
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const stat = orGone(() => {
      using place = tree.find(next!);
      return statAt(place.at, place.path);
    });
    if (stat === undefined) continue;
    yield stat;
    if (recursive && stat.type === 'directory') orGone(() => enter(next!, false));
  }
}

/** What vanished or changed its kind since it was read from its directory is simply not there. */
function orGone<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}

/** A binary heap of paths. */
class PathHeap {
  readonly #paths: string[] = [];

  push(path: string): void {
    const paths = this.#paths;
    let at = paths.push(path) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (compareBytewise(paths[parent]!, path) <= 0) break;
      paths[at] = paths[parent]!;
      at = parent;
    }
    paths[at] = path;
  }

  pop(): string | undefined {
    const paths = this.#paths;
    const top = paths[0];
    const last = paths.pop();
    if (last === undefined || paths.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= paths.length) break;
      if (child + 1 < paths.length && compareBytewise(paths[child + 1]!, paths[child]!) < 0) child += 1;
      if (compareBytewise(last, paths[child]!) <= 0) break;
      paths[at] = paths[child]!;
      at = child;
    }
    paths[at] = last;
    return top;
  }
}
