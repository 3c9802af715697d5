import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  lchownSync,
  mkdirSync,
  openSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import type { ManifestEntry } from '../../../controller/agents/wire.ts';
import type { Owner } from '../user/side.ts';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

type FileEntry = ManifestEntry & { type: 'file' };

/** A tree that is being built from a manifest, in a folder of the agent's alone. */
export class Staging implements Disposable {
  /** The folder as an open directory: nobody can put another one in its place. */
  readonly path: string;
  readonly #fd: number;
  readonly #entries: ManifestEntry[];
  readonly #owner: Owner | undefined;
  /** By pack and hash: the files that have this content. */
  readonly #wanted = new Map<string, FileEntry[]>();
  readonly #filled = new Set<string>();

  /** Makes all directories; files come with `fill`. */
  constructor(dir: string, entries: ManifestEntry[], owner: Owner | undefined) {
    this.#fd = openSync(dir, DIRECTORY);
    this.path = `/proc/self/fd/${this.#fd}`;
    this.#entries = entries;
    this.#owner = owner;
    for (const entry of entries) {
      if (entry.type === 'directory') mkdirSync(this.#at(entry), 0o700);
      if (entry.type === 'file' && entry.size > 0) this.#want(entry);
    }
  }

  /** Where the blob is to be written; undefined where no file has it in this pack. */
  place(pack: number, sha256: string, bytes: number): string | undefined {
    const [first] = this.#wanted.get(`${pack} ${sha256}`) ?? [];
    if (first === undefined) return undefined;
    if (first.size !== bytes) throw new Error(`pack ${pack} holds a blob of a size that no file has`);
    return this.#at(first);
  }

  /** The blob is in its place, whole and with the right hash. */
  fill(pack: number, sha256: string): void {
    const key = `${pack} ${sha256}`;
    const [first, ...others] = this.#wanted.get(key)!;
    for (const other of others) copyFileSync(this.#at(first!), this.#at(other));
    this.#filled.add(key);
  }

  /** Makes what has no content of its own, and sets owners, modes and times. Throws when a blob is missing. */
  finish(): void {
    if (this.#filled.size !== this.#wanted.size) {
      throw new Error(`${this.#wanted.size - this.#filled.size} blobs are in none of the packs`);
    }
    // Backwards, so that a directory gets its time after all that is in it.
    for (const entry of this.#entries.toReversed()) {
      const at = this.#at(entry);
      if (entry.type === 'symlink') symlinkSync(entry.target, at);
      if (entry.type === 'file' && entry.size === 0) writeFileSync(at, '', { flag: 'wx' });
      if (this.#owner !== undefined) lchownSync(at, this.#owner.uid, this.#owner.gid);
      if (entry.type === 'symlink') continue;
      chmodSync(at, entry.mode);
      // A little more than the millisecond: as seconds it would else be cut down to the one before.
      const seconds = (entry.mtime_ms + 0.01) / 1000;
      utimesSync(at, seconds, seconds);
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #want(entry: FileEntry): void {
    const key = `${entry.pack} ${entry.sha256}`;
    const entries = this.#wanted.get(key);
    if (entries === undefined) this.#wanted.set(key, [entry]);
    else entries.push(entry);
  }

  #at({ path }: ManifestEntry): string {
    return `${this.path}/${path}`;
  }
}
