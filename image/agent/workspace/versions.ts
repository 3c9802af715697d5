import { mkdirSync, readdirSync, statSync, utimesSync } from 'node:fs';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ManifestEntry } from '../../../controller/agents/wire.ts';
import { decodeManifest, treeHash } from './manifest.ts';

const KEPT = 4;
const NAME = /^[0-9a-f]{64}$/;

/** Manifests of versions that the workspace had, in files: to tell how it differs from one, also after the agent was restarted. */
export class Versions {
  readonly #dir: string;
  readonly #session: string;
  /** Hash of the tree by hash of the manifest; the one that was needed last at the end. */
  readonly #trees = new Map<string, string | undefined>();

  constructor(dir: string, session: string) {
    this.#dir = dir;
    this.#session = session;
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const age = (name: string) => statSync(join(dir, name)).mtimeMs;
    const names = readdirSync(dir).filter((name) => NAME.test(name));
    for (const name of names.sort((a, b) => age(a) - age(b))) this.#trees.set(name, undefined);
  }

  /** The workspace is now, or was, what this manifest says. */
  async know(sha256: string, manifest: Buffer, entries: ManifestEntry[]): Promise<void> {
    const at = join(this.#dir, sha256);
    await writeFile(`${at}.new`, manifest, { mode: 0o600 });
    await rename(`${at}.new`, at);
    this.#trees.delete(sha256);
    this.#trees.set(sha256, treeHash(entries));
    for (const old of [...this.#trees.keys()].slice(0, -KEPT)) {
      this.#trees.delete(old);
      await rm(join(this.#dir, old), { force: true });
    }
  }

  /** Undefined: not known, or no longer. */
  async entries(sha256: string): Promise<ManifestEntry[] | undefined> {
    if (!this.#trees.has(sha256)) return undefined;
    const at = join(this.#dir, sha256);
    const { entries } = await decodeManifest(await readFile(at), this.#session);
    this.#trees.delete(sha256);
    this.#trees.set(sha256, treeHash(entries));
    const now = new Date();
    utimesSync(at, now, now);
    return entries;
  }

  /** The hash of that version's tree; see `treeHash`. */
  async tree(sha256: string): Promise<string | undefined> {
    const tree = this.#trees.get(sha256);
    if (tree === undefined && !this.#trees.has(sha256)) return undefined;
    if (tree === undefined) await this.entries(sha256);
    else {
      this.#trees.delete(sha256);
      this.#trees.set(sha256, tree);
    }
    return this.#trees.get(sha256);
  }
}
