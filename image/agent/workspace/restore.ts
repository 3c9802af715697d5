import { randomBytes } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync, readdirSync, renameSync, rmdirSync } from 'node:fs';
import type { Manifest, PackObject, RestoreRequest } from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';
import type { Beneath } from '../files/beneath.ts';
import { removeTree } from '../files/change.ts';
import { OWN_NAME } from '../files/own.ts';
import { messageOf } from '../log.ts';
import type { Owner } from '../user/side.ts';
import { decodeManifest } from './manifest.ts';
import { type Patience, persist } from './retry.ts';
import { Staging } from './staging.ts';
import { DamagedObject, get, StorageError, type Way } from './transfer.ts';
import { unpack } from './unpack.ts';

export interface RestoreParts {
  tree: Beneath;
  session: string;
  owner: Owner | undefined;
  way: Way;
  patience: Patience;
  /** Makes the change of the workspace. Throws where it must not be made after all. */
  change: (moveIn: () => void) => Promise<void>;
}

export interface Restored {
  manifest: Manifest;
  manifestBytes: Buffer;
}

/** Brings a saved version into the workspace: built aside, checked to the last byte, then moved in. All or nothing. */
export async function restore(request: RestoreRequest, parts: RestoreParts): Promise<Restored> {
  try {
    if (request.manifest === undefined) throw new Error('no manifest was given');
    const manifestBytes = await fetchObject(request.manifest, parts);
    const manifest = await decodeManifest(manifestBytes, parts.session);
    using place = parts.tree.find(`${OWN_NAME}.${randomBytes(8).toString('hex')}`);
    mkdirSync(place.at, 0o700);
    try {
      using staging = new Staging(place.at, manifest.entries, parts.owner);
      for (const [index, objects] of manifest.packs.entries())
        await unpack(fetchAll(objects, request, parts), staging, index);
      staging.finish();
      await parts.change(() => moveIn(staging.path, parts.tree));
    } finally {
      await removeTree(place.at);
    }
    return { manifest, manifestBytes };
  } catch (error) {
    if (error instanceof Fault) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT') throw error;
    throw new Fault('restore_failed', `Version ${request.version}: ${messageOf(error)}`, { cause: error });
  }
}

async function* fetchAll(
  objects: PackObject[],
  { packs = [] }: RestoreRequest,
  parts: RestoreParts,
): AsyncGenerator<Buffer> {
  for (const object of objects) {
    const given = packs.find(({ sha256 }) => sha256 === object.sha256);
    if (given === undefined) throw new Error(`no URL was given for object ${object.sha256}`);
    yield await fetchObject({ ...object, url: given.url }, parts);
  }
}

async function fetchObject(
  object: PackObject & { url: string },
  { way, patience }: RestoreParts,
): Promise<Buffer> {
  try {
    return await persist(() => get(object.url, object, way), patience);
  } catch (error) {
    const damaged = error instanceof DamagedObject;
    const code = damaged ? 'version_damaged' : 'storage_unavailable';
    throw new Fault(code, `Object ${object.sha256}: ${messageOf(error)}`, {
      object: object.sha256,
      ...(error instanceof StorageError && { storageStatus: error.status }),
      cause: error,
    });
  }
}

/** Moves what is in `from` into the workspace; what is there already is never replaced, and a failure moves all back. */
function moveIn(from: string, tree: Beneath): void {
  using root = tree.find('');
  const moved: string[] = [];
  try {
    for (const name of readdirSync(from)) {
      const to = `${root.parent}/${name}`;
      const present = lstatSync(to, { throwIfNoEntry: false });
      if (present?.isDirectory()) rmdirSync(to);
      else if (present !== undefined) throw new Error(`"${name}" is in the workspace already`);
      moveOne(`${from}/${name}`, to);
      moved.push(name);
    }
  } catch (error) {
    for (const name of moved) moveOne(`${root.parent}/${name}`, `${from}/${name}`);
    throw error;
  }
}

/** A directory that its owner may not write to can't be moved by the owner either: its `..` would change. */
function moveOne(from: string, to: string): void {
  const stat = lstatSync(from);
  const closed = stat.isDirectory() && (stat.mode & 0o200) === 0;
  if (closed) chmodSync(from, stat.mode | 0o200);
  renameSync(from, to);
  if (closed) chmodSync(to, stat.mode);
}
