import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, rm, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type {
  ManifestEntry,
  PackRequest,
  PackResult,
  Unsaved,
  UnsavedRequest,
} from '../../../controller/agents/wire.ts';
import type { Beneath } from '../files/beneath.ts';
import { openFile, openFileNow } from '../files/read.ts';
import { log } from '../log.ts';
import { differenceOf } from './difference.ts';
import { type Content, contentOf, Hashes, pieces, type Reader, SMALL_BYTES, sha256 } from './hashes.ts';
import { Held } from './held.ts';
import { entriesOf, type Look, look, markOf, type Run } from './look.ts';
import { countFiles, encodeManifest, treeHash } from './manifest.ts';
import { MOST_OBJECT_BYTES, PackWriter } from './pack-writer.ts';
import { type PackRun, type PackSpool, Spools } from './spools.ts';
import type { Versions } from './versions.ts';
import { type FoundFile, unlessReadable } from './walk.ts';
import { writeHashed } from './write-hashed.ts';

const PAUSE_MS = 5_000;
const UNWATCHED: Run = { stillWanted: () => {}, progress: () => {} };

/**
 * Runs the work while no process of the user's runs and no file is changed over the API. After `mostMs` they go on though the work has not
 * ended, and `atomic` is false.
 */
export type Quiet = <T>(
  work: () => Promise<T>,
  mostMs: number,
) => Promise<{ value: T; atomic: boolean; pausedMs: number }>;

export interface PackerParts {
  tree: Beneath;
  /** Folder for the packs until they are uploaded. */
  dir: string;
  session: string;
  uid: number;
  versions: Versions;
  quiet: Quiet;
  now: () => number;
}

interface Moment {
  seen: Look;
  atomic: boolean;
  pausedMs: number;
}

/** Packs the workspace: walks, hashes what changed, and writes manifest and packs into a folder of the agent's. */
export class Packer {
  readonly #parts: PackerParts;
  readonly #hashes: Hashes;
  readonly #spools = new Spools();
  readonly #watchers = new Set<Run['progress']>();
  #turn: Promise<unknown> = Promise.resolve();

  constructor(parts: PackerParts) {
    this.#parts = parts;
    this.#hashes = new Hashes(parts.tree, parts.uid, parts.now);
  }

  /** One run at a time; a second one waits for the first, and is told of its progress. */
  async pack(request: PackRequest, { stillWanted, progress }: Run = UNWATCHED): Promise<PackResult> {
    const told: Run['progress'] = (...done) => progress(...done);
    this.#watchers.add(told);
    const all: Run['progress'] = (...done) => {
      for (const watcher of this.#watchers) watcher(...done);
    };
    const run = this.#turn.then(() => this.#pack(request, { stillWanted, progress: all }));
    this.#turn = run.catch(() => {});
    try {
      return await run;
    } finally {
      this.#watchers.delete(told);
    }
  }

  spool(packId: string): PackSpool {
    return this.#spools.get(packId);
  }

  /** How the workspace differs from a version. What differs in size or time need not be read for that. */
  async unsaved({ base, base_sha256 }: UnsavedRequest, stillWanted: () => void): Promise<Unsaved> {
    const saved = base === 0 ? [] : base_sha256 && (await this.#parts.versions.entries(base_sha256));
    const before = new Map((saved || []).map((entry) => [entry.path, entry]));
    const seen = await look(
      this.#parts.tree,
      ({ path, stat }) => {
        const was = before.get(path);
        const alike =
          was?.type === 'file' && was.size === stat.size && was.mtime_ms === Math.trunc(stat.mtimeMs);
        if (!alike) return { size: stat.size, sha256: '' };
        return this.#hashes.known(path, stat) ?? this.#hashes.read(path, stat);
      },
      stillWanted,
    );
    return { base, known: Array.isArray(saved), ...differenceOf(before, entriesOf(seen)) };
  }

  async #pack(request: PackRequest, run: Run): Promise<PackResult> {
    const { versions } = this.#parts;
    const { base, base_sha256 } = request;
    const objectBytes = Math.min(request.object_bytes ?? MOST_OBJECT_BYTES, MOST_OBJECT_BYTES);
    run.stillWanted();
    const count = ({ length }: Buffer) => run.progress(length);
    const first = await this.#look(({ path, stat }) => this.#hashes.read(path, stat, count), run);
    const tree = treeHash(entriesOf(first));
    if (base_sha256 !== undefined && (await versions.tree(base_sha256)) === tree)
      return { changed: false, sha256: base_sha256 };
    const keyOf = (hash: string) => `${hash} ${base} ${objectBytes}`;
    const earlier = this.#spools.find(keyOf(tree));
    if (earlier !== undefined) return { ...earlier.result, paused_ms: 0 };

    const packId = randomBytes(8).toString('hex');
    const dir = join(this.#parts.dir, packId);
    await mkdir(dir, { recursive: true, mode: 0o700 });
    try {
      const { result, spool, entries } = await this.#write(packId, dir, first, objectBytes, request, run);
      const done: PackRun = { key: keyOf(treeHash(entries)), spool, result };
      const manifest = readFileSync(join(dir, result.manifest.sha256));
      await versions.know(result.manifest.sha256, manifest, entries);
      await this.#spools.add(done);
      return result;
    } catch (error) {
      await rm(dir, { recursive: true, force: true });
      throw error;
    }
  }

  /**
   * All that the first look saw is packed first, while everything goes on. Then the moment is found, when only what has changed since is to
   * be read. What it held is packed when everything goes on again.
   */
  async #write(
    packId: string,
    dir: string,
    first: Look,
    objectBytes: number,
    { base, pause_ms = PAUSE_MS }: PackRequest,
    run: Run,
  ): Promise<{ result: PackRun['result']; spool: PackSpool; entries: ManifestEntry[] }> {
    const writer = new PackWriter(dir, objectBytes);
    const packed = new Set<string>();
    try {
      for (const { found, content } of first.seen) {
        run.stillWanted();
        if (content === undefined || content.size === 0 || packed.has(content.sha256)) continue;
        await this.#add(writer, packed, found.path, content, dir, run).catch(unlessReadable);
      }
      using held = new Held(join(dir, 'held'));
      const { seen, atomic, pausedMs } = await this.#moment(first, packed, held, pause_ms, run);
      const entries = entriesOf(seen);
      for (const entry of entries) {
        run.stillWanted();
        if (entry.type !== 'file' || entry.size === 0) continue;
        if (!packed.has(entry.sha256)) await writer.add(entry.sha256, entry.size, held.bytes(entry.sha256));
        packed.add(entry.sha256);
        entry.pack = 0;
        run.progress(0);
      }
      const packs = await writer.finish();
      const { leftOut } = seen;
      if (leftOut.length > 0) log('warn', 'not saved', { paths: leftOut });
      const manifest = {
        format: 1 as const,
        session: this.#parts.session,
        base,
        packs: packs.length === 0 ? [] : [packs],
        entries,
      };
      const bytes = await encodeManifest(manifest);
      const manifestObject = { sha256: sha256(bytes), bytes: bytes.length };
      await writeFile(join(dir, manifestObject.sha256), bytes, { mode: 0o600 });
      const result: PackRun['result'] = {
        changed: true,
        pack_id: packId,
        manifest: manifestObject,
        packs,
        ...countFiles(manifest),
        atomic,
        paused_ms: pausedMs,
        ...(leftOut.length === 0 ? {} : { left_out: leftOut }),
      };
      return { result, spool: { dir, manifestObject, packs, taken: new Set() }, entries };
    } catch (error) {
      await writer.abandon();
      throw error;
    }
  }

  /**
   * One at which all that is saved existed. Where a second look sees what the first one saw, it lies between them, and nobody was
   * held up. Otherwise everything is held for a third.
   */
  async #moment(first: Look, packed: Set<string>, held: Held, pauseMs: number, run: Run): Promise<Moment> {
    const inHand = (sha256: string) => packed.has(sha256) || held.has(sha256);
    const capture = async (mostBytes: number): Promise<{ seen: Look; whole: boolean }> => {
      let whole = true;
      const seen = await this.#look(
        ({ path, stat }) => {
          if (stat.size > mostBytes) {
            whole = false;
            return undefined;
          }
          const read = (each: Reader) =>
            this.#hashes.read(path, stat, (piece) => {
              each(piece);
              run.progress(piece.length);
            });
          return held.take(read, (sha256) => packed.has(sha256));
        },
        run,
        ({ sha256, size }) => size === 0 || inHand(sha256),
      );
      return { seen, whole };
    };
    // Most of what has changed is small, and need not be read in the pause. What is large and being written would be read in vain.
    const second = await capture(pauseMs > 0 ? SMALL_BYTES : Number.POSITIVE_INFINITY);
    const stood = second.whole && markOf(second.seen) === markOf(first);
    if (stood || pauseMs === 0) return { seen: second.seen, atomic: stood, pausedMs: 0 };
    const { value, atomic, pausedMs } = await this.#parts.quiet(
      () => capture(Number.POSITIVE_INFINITY),
      pauseMs,
    );
    return { seen: value.seen, atomic, pausedMs };
  }

  /** `read` is asked for what isn't known or, if known, not `enough`. */
  async #look(
    read: (file: FoundFile) => Promise<Content> | undefined,
    { stillWanted, progress }: Run,
    enough: (content: Content) => boolean = () => true,
  ): Promise<Look> {
    const seen = await look(
      this.#parts.tree,
      async (file) => {
        const known = this.#hashes.known(file.path, file.stat);
        const content = known !== undefined && enough(known) ? known : await read(file);
        progress(0, 1);
        return content;
      },
      stillWanted,
    );
    this.#hashes.keep(new Set(seen.seen.map(({ found }) => found.path)));
    return seen;
  }

  /** Packs what a file held, unless it has changed: the moment to come will see to it. */
  async #add(
    writer: PackWriter,
    packed: Set<string>,
    path: string,
    content: Content,
    dir: string,
    { progress }: Run,
  ): Promise<void> {
    using place = this.#parts.tree.find(path);
    if (content.size <= SMALL_BYTES) {
      using file = openFileNow(place.at, path, this.#parts.uid);
      if (file.stat.size !== content.size) return;
      const bytes = readFileSync(file.fd);
      if (contentOf(bytes).sha256 !== content.sha256) return;
      await writer.add(content.sha256, content.size, bytes);
    } else {
      // The name of a blob, its hash, stands before its bytes: so they must stay the same from the hash to the end.
      const copy = join(dir, 'copy');
      await using file = await openFile(place.at, path, this.#parts.uid);
      const counted = counting(pieces(file.handle, file.stat.size), progress);
      const { sha256 } = await writeHashed(counted, copy);
      if (sha256 === content.sha256) {
        await using stable = await openFile(copy, copy, process.getuid!());
        await writer.add(sha256, content.size, counting(pieces(stable.handle, content.size), progress));
      }
      await unlink(copy);
      if (sha256 !== content.sha256) return;
    }
    packed.add(content.sha256);
    progress(content.size);
  }
}

async function* counting(parts: AsyncIterable<Buffer>, progress: Run['progress']): AsyncGenerator<Buffer> {
  for await (const part of parts) {
    progress(part.length);
    yield part;
  }
}
