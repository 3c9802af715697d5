import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import type { Manifest, ManifestEntry } from '../../../controller/agents/wire.ts';
import { compareBytewise } from '../files/order.ts';
import { EMPTY_SHA256, sha256 } from './hashes.ts';

const MAX_JSON_BYTES = 256 << 20;
const HEX = /^[0-9a-f]{64}$/;

export function encodeManifest(manifest: Manifest): Promise<Buffer> {
  return promisify(gzip)(JSON.stringify(manifest));
}

/** Says the same for the same files, wherever they are packed and on whatever version they are based. */
export function treeHash(entries: ManifestEntry[]): string {
  return sha256(JSON.stringify(entries.map((entry) => ({ ...entry, pack: undefined }))));
}

/** Reads a manifest and refuses all that could lead a restore astray. The message says which entry and why. */
export async function decodeManifest(bytes: Buffer, session: string): Promise<Manifest> {
  const json = await promisify(gunzip)(bytes, { maxOutputLength: MAX_JSON_BYTES });
  const manifest = JSON.parse(json.toString('utf8')) as Manifest;
  if (manifest.format !== 1) throw new Error(`its format is ${manifest.format}, not 1`);
  if (manifest.session !== session) throw new Error('it belongs to another session');
  if (!manifest.packs.every((pack) => pack.length > 0 && pack.every(({ sha256 }) => HEX.test(sha256)))) {
    throw new Error('an object of a pack has no hash');
  }
  checkEntries(manifest);
  return manifest;
}

export function isHash(text: string): boolean {
  return HEX.test(text);
}

export function countFiles({ entries }: Manifest): { files: number; bytes: number } {
  const files = entries.filter((entry) => entry.type === 'file');
  return { files: files.length, bytes: files.reduce((sum, { size }) => sum + size, 0) };
}

function checkEntries({ entries, packs }: Manifest): void {
  const directories = new Set(['']);
  let previous = '';
  for (const entry of entries) {
    const { path } = entry;
    const refuse = (why: string) => new Error(`the entry ${JSON.stringify(path)} ${why}`);
    if (typeof path !== 'string' || !path.split('/').every(isName))
      throw refuse('leads out of the workspace');
    if (compareBytewise(previous, path) >= 0) throw refuse('comes twice or out of order');
    previous = path;
    // Only what is itself an entry, and a directory, may hold others: so nothing is written through a symlink.
    if (!directories.has(path.slice(0, Math.max(0, path.lastIndexOf('/'))))) throw refuse('has no directory');
    if (entry.type === 'directory') {
      directories.add(path);
    } else if (entry.type === 'symlink') {
      if (typeof entry.target !== 'string' || entry.target.includes('\0')) throw refuse('has no target');
    } else if (entry.type === 'file') {
      if (!Number.isSafeInteger(entry.size) || entry.size < 0 || !HEX.test(entry.sha256))
        throw refuse('has no content');
      const packed = entry.size === 0 ? entry.sha256 === EMPTY_SHA256 : packs[entry.pack ?? -1] !== undefined;
      if (!packed) throw refuse('is in no pack');
    } else {
      throw refuse('is of an unknown type');
    }
    if (entry.type !== 'symlink' && !isMode(entry.mode)) throw refuse('has a bad mode');
    if (entry.type !== 'symlink' && !Number.isFinite(entry.mtime_ms)) throw refuse('has no time');
  }
}

function isMode(mode: unknown): boolean {
  return Number.isInteger(mode) && (mode as number) >= 0 && (mode as number) <= 0o7777;
}

function isName(part: string): boolean {
  return part !== '' && part !== '.' && part !== '..' && !part.includes('\0');
}
