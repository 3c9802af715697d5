import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, open, rm, unlink, writeFile } from 'node:fs/promises';
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
import { EMPTY_SHA256, Hashes, pieces, SMALL_BYTES, sha256 } from './hashes.ts';
import { encodeManifest, treeHash } from './manifest.ts';
import { PackWriter } from './pack-writer.ts';
import { unlessGone, walk } from './walk.ts';

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
  manifest: PackObject;
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

  /** One run at a time; a second one waits for the first. */
  pack(request: PackRequest): Promise<PackResult> {
    const run = this.#turn.then(() => this.#pack(request));
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

  async #pack({ base, base_sha256 }: PackRequest): Promise<PackResult> {
    const entries = await this.#entries();
    const known = base_sha256 === undefined ? undefined : this.#trees.get(base_sha256);
    if (base_sha256 !== undefined && known === treeHash(entries))
      return { changed: false, sha256: base_sha256 };

    const packId = randomBytes(8).toString('hex');
    const dir = join(this.#parts.dir, packId);
    await mkdir(dir, { recursive: true, mode: 0o700 });
    try {
      const spool = await this.#write(dir, base, entries);
      this.#spools.set(packId, spool);
      for (const { dir: old } of dropOldest(this.#spools, SPOOLS_KEPT))
        await rm(old, { recursive: true, force: true });
      this.know(spool.manifest.sha256, entries);
      const files = entries.filter((entry) => entry.type === 'file');
      const bytes = files.reduce((sum, { size }) => sum + size, 0);
      return {
        changed: true,
        pack_id: packId,
        manifest: spool.manifest,
        packs: spool.packs,
        files: files.length,
        bytes,
      };
    } catch (error) {
      await rm(dir, { recursive: true, force: true });
      throw error;
    }
  }

  async #entries(): Promise<ManifestEntry[]> {
    const found = await walk(this.#parts.tree);
    const entries: ManifestEntry[] = [];
    for (const each of found) {
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
      const hashed = await this.#hashes.of(path, stat).catch(unlessReadable);
      if (hashed !== undefined) entries.push({ type: 'file', ...common, size: stat.size, sha256: hashed });
    }
    this.#hashes.keep(new Set(entries.map(({ path }) => path)));
    return entries.sort((a, b) => compareBytewise(a.path, b.path));
  }

  /** Writes packs and manifest. An entry whose file changes meanwhile is corrected to what was read, one that vanishes goes. */
  async #write(dir: string, base: number, entries: ManifestEntry[]): Promise<PackSpool> {
    const writer = new PackWriter(dir);
    const packed = new Map<string, number>();
    try {
      for (const entry of [...entries]) {
        if (entry.type !== 'file') continue;
        const there = await this.#add(writer, packed, entry, dir).catch(unlessReadable);
        if (there === undefined) entries.splice(entries.indexOf(entry), 1);
      }
    } catch (error) {
      await writer.abandon();
      throw error;
    }
    const packs = await writer.finish();
    const manifest: Manifest = { format: 1, session: this.#parts.session, base, packs, entries };
    const bytes = await encodeManifest(manifest);
    const object = { sha256: sha256(bytes), bytes: bytes.length };
    await writeFile(join(dir, object.sha256), bytes, { mode: 0o600 });
    return { dir, manifest: object, packs };
  }

  async #add(writer: PackWriter, packed: Map<string, number>, entry: FileEntry, dir: string): Promise<true> {
    const reuse = (): boolean => {
      if (entry.size > 0 && packed.has(entry.sha256)) entry.pack = packed.get(entry.sha256)!;
      return entry.size === 0 ? entry.sha256 === EMPTY_SHA256 : entry.pack !== undefined;
    };
    if (reuse()) return true;
    using place = this.#parts.tree.find(entry.path);
    await using file = await openFile(place.at, entry.path, this.#parts.uid);
    if (file.stat.size <= SMALL_BYTES) {
      const content = readFileSync(file.handle.fd);
      entry.size = content.length;
      entry.sha256 = sha256(content);
      if (!reuse()) entry.pack = await writer.add(entry.sha256, entry.size, content);
    } else {
      // The name of a blob, its hash, stands before its bytes: so they must stay the same from the hash to the end.
      const copy = join(dir, 'copy');
      Object.assign(entry, await copyHashed(file.handle, copy));
      await using stable = await openFile(copy, copy, process.getuid!());
      if (!reuse()) entry.pack = await writer.add(entry.sha256, entry.size, pieces(stable.handle));
      await unlink(copy);
    }
    packed.set(entry.sha256, entry.pack ?? 0);
    return true;
  }
}

async function copyHashed(
  from: Parameters<typeof pieces>[0],
  copy: string,
): Promise<{ size: number; sha256: string }> {
  const handle = await open(copy, 'w', 0o600);
  const sum = createHash('sha256');
  let size = 0;
  try {
    for await (const piece of pieces(from)) {
      sum.update(piece);
      await handle.write(piece, 0, piece.length, size);
      size += piece.length;
    }
  } finally {
    await handle.close();
  }
  return { size, sha256: sum.digest('hex') };
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
