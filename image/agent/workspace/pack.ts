import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, rm, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type {
  Manifest,
  ManifestEntry,
  PackObject,
  PackRequest,
  PackResult,
} from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';
import type { Beneath } from '../files/beneath.ts';
import { compareBytewise } from '../files/order.ts';
import { openFile } from '../files/read.ts';
import { log } from '../log.ts';
import { contentOf, Hashes, pieces, SMALL_BYTES, sha256 } from './hashes.ts';
import { countFiles, encodeManifest, treeHash } from './manifest.ts';
import { PackWriter } from './pack-writer.ts';
import { unlessGone, walk } from './walk.ts';
import { writeHashed } from './write-hashed.ts';

const SPOOLS_KEPT = 2;
const TREES_KNOWN = 8;

type FileEntry = ManifestEntry & { type: 'file' };

export interface PackerParts {
  tree: Beneath;
  /** Folder for the packs until they are uploaded. */
  dir: string;
  session: string;
  uid: number;
  now: () => number;
}

/** What an upload needs of a pack run. */
export interface PackSpool {
  dir: string;
  manifestObject: PackObject;
  packs: PackObject[];
}

/** Packs the workspace: walks, hashes what changed, and writes manifest and packs into a folder of the agent's. */
export class Packer {
  readonly #parts: PackerParts;
  readonly #hashes: Hashes;
  readonly #spools = new Map<string, PackSpool>();
  /** Hash of the tree by hash of the manifest that says the same. */
  readonly #trees = new Map<string, string>();
  #turn: Promise<unknown> = Promise.resolve();

  constructor(parts: PackerParts) {
    this.#parts = parts;
    this.#hashes = new Hashes(parts.tree, parts.uid, parts.now);
  }

  /**
   * One run at a time; a second one waits for the first. `stillWanted` throws when the caller has given up: nobody would take the pack, and
   * the next caller waits.
   */
  pack(request: PackRequest, stillWanted: () => void = () => {}): Promise<PackResult> {
    const run = this.#turn.then(() => this.#pack(request, stillWanted));
    this.#turn = run.catch(() => {});
    return run;
  }

  spool(packId: string): PackSpool {
    const spool = this.#spools.get(packId);
    if (spool === undefined) {
      throw new Fault('invalid_request', `There is no pack run "${packId}" any more`, { field: 'pack_id' });
    }
    return spool;
  }

  /** The workspace is now what this manifest says. */
  know(manifestSha256: string, entries: ManifestEntry[]): void {
    this.#trees.set(manifestSha256, treeHash(entries));
    dropOldest(this.#trees, TREES_KNOWN);
  }

  async #pack({ base, base_sha256 }: PackRequest, stillWanted: () => void): Promise<PackResult> {
    stillWanted();
    const { entries, leftOut } = await this.#look(stillWanted);
    if (leftOut.length > 0) log('warn', 'not saved', { paths: leftOut });
    const known = base_sha256 === undefined ? undefined : this.#trees.get(base_sha256);
    if (base_sha256 !== undefined && known === treeHash(entries))
      return { changed: false, sha256: base_sha256 };

    const packId = randomBytes(8).toString('hex');
    const dir = join(this.#parts.dir, packId);
    await mkdir(dir, { recursive: true, mode: 0o700 });
    try {
      const { manifest, ...spool } = await this.#write(dir, base, entries, stillWanted);
      this.#spools.set(packId, spool);
      for (const { dir: old } of dropOldest(this.#spools, SPOOLS_KEPT))
        await rm(old, { recursive: true, force: true });
      this.know(spool.manifestObject.sha256, manifest.entries);
      return {
        changed: true,
        pack_id: packId,
        manifest: spool.manifestObject,
        packs: spool.packs,
        ...countFiles(manifest),
        ...(leftOut.length === 0 ? {} : { left_out: leftOut }),
      };
    } catch (error) {
      await rm(dir, { recursive: true, force: true });
      throw error;
    }
  }

  async #look(stillWanted: () => void): Promise<{ entries: ManifestEntry[]; leftOut: string[] }> {
    const { found, leftOut } = await walk(this.#parts.tree);
    const entries: ManifestEntry[] = [];
    for (const each of found) {
      stillWanted();
      if (each.type === 'symlink') {
        entries.push({ path: each.path, type: 'symlink', target: each.target });
        continue;
      }
      const { path, stat } = each;
      const common = { path, mode: stat.mode & 0o7777, mtime_ms: Math.trunc(stat.mtimeMs) };
      if (each.type === 'directory') {
        entries.push({ type: 'directory', ...common });
        continue;
      }
      const content = await this.#hashes.of(path, stat).catch(unlessReadable);
      if (content !== undefined) entries.push({ type: 'file', ...common, ...content });
    }
    this.#hashes.keep(new Set(entries.map(({ path }) => path)));
    return { entries: entries.sort((a, b) => compareBytewise(a.path, b.path)), leftOut };
  }

  /** Writes pack and manifest. An entry whose file changes meanwhile is corrected to what was read, one that vanishes goes. */
  async #write(
    dir: string,
    base: number,
    entries: ManifestEntry[],
    stillWanted: () => void,
  ): Promise<PackSpool & { manifest: Manifest }> {
    const writer = new PackWriter(dir);
    const packed = new Set<string>();
    const kept: ManifestEntry[] = [];
    let packs: PackObject[];
    try {
      for (const entry of entries) {
        stillWanted();
        const there =
          entry.type !== 'file' || (await this.#add(writer, packed, entry, dir).catch(unlessReadable));
        if (there) kept.push(entry);
      }
      packs = await writer.finish();
    } catch (error) {
      await writer.abandon();
      throw error;
    }
    const manifest: Manifest = {
      format: 1,
      session: this.#parts.session,
      base,
      packs: packs.length === 0 ? [] : [packs],
      entries: kept,
    };
    const bytes = await encodeManifest(manifest);
    const manifestObject = { sha256: sha256(bytes), bytes: bytes.length };
    await writeFile(join(dir, manifestObject.sha256), bytes, { mode: 0o600 });
    return { dir, manifestObject, packs, manifest };
  }

  async #add(writer: PackWriter, packed: Set<string>, entry: FileEntry, dir: string): Promise<true> {
    const isPacked = () => entry.size === 0 || packed.has(entry.sha256);
    if (!isPacked()) {
      using place = this.#parts.tree.find(entry.path);
      await using file = await openFile(place.at, entry.path, this.#parts.uid);
      if (file.stat.size <= SMALL_BYTES) {
        const bytes = readFileSync(file.handle.fd);
        Object.assign(entry, contentOf(bytes));
        if (!isPacked()) await writer.add(entry.sha256, entry.size, bytes);
      } else {
        // The name of a blob, its hash, stands before its bytes: so they must stay the same from the hash to the end.
        const copy = join(dir, 'copy');
        Object.assign(entry, await writeHashed(pieces(file.handle, file.stat.size), copy));
        await using stable = await openFile(copy, copy, process.getuid!());
        if (!isPacked()) await writer.add(entry.sha256, entry.size, pieces(stable.handle, stable.stat.size));
        await unlink(copy);
      }
    }
    if (entry.size > 0) {
      packed.add(entry.sha256);
      entry.pack = 0;
    }
    return true;
  }
}

/** A file of someone else, or one that is no file any more, is not the user's to save. */
function unlessReadable(error: unknown): undefined {
  if (error instanceof Fault && (error.code === 'path_outside' || error.code === 'not_a_file')) return;
  if ((error as NodeJS.ErrnoException).code === 'EACCES') return;
  return unlessGone(error as NodeJS.ErrnoException);
}

/** Leaves the newest `most` entries of the map; answers what went. */
function dropOldest<V>(map: Map<string, V>, most: number): V[] {
  const surplus = [...map].slice(0, Math.max(0, map.size - most));
  for (const [key] of surplus) map.delete(key);
  return surplus.map(([, value]) => value);
}
