import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync, readdirSync, renameSync, rmdirSync } from 'node:fs';
import type { Readable } from 'node:stream';
import type { Manifest, PackObject, RestoreRequest } from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';
import type { Beneath } from '../files/beneath.ts';
import { removeTree } from '../files/change.ts';
import { OWN_NAME } from '../files/own.ts';
import { messageOf } from '../log.ts';
import type { Owner } from '../user/side.ts';
import { decodeManifest } from './manifest.ts';
import { Staging } from './staging.ts';
import { get, twice } from './transfer.ts';
import { unpack } from './unpack.ts';

const MAX_MANIFEST_BYTES = 64 << 20;

export interface RestoreParts {
  tree: Beneath;
  session: string;
  owner: Owner | undefined;
  proxyUrl: string | undefined;
}

/** Brings a saved version into the workspace: built aside, checked to the last byte, then moved in. All or nothing. */
export async function restore(request: RestoreRequest, parts: RestoreParts): Promise<Manifest> {
  try {
    const manifest = await download(request, parts);
    const urls = new Map(request.packs?.map(({ sha256, url }) => [sha256, url]));
    using place = parts.tree.find(`${OWN_NAME}.${randomBytes(8).toString('hex')}`);
    mkdirSync(place.at, 0o700);
    try {
      using staging = new Staging(place.at, manifest.entries, parts.owner);
      for (const [index, pack] of manifest.packs.entries()) {
        const url = urls.get(pack.sha256);
        if (url === undefined) throw new Error(`no URL was given for pack ${pack.sha256}`);
        await twice(() => get(url, parts.proxyUrl, (body) => unpack(measured(body, pack), staging, index)));
      }
      staging.finish();
      moveIn(staging.path, parts.tree);
    } finally {
      await removeTree(place.at);
    }
    return manifest;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT') throw error;
    throw new Fault('restore_failed', `Version ${request.version}: ${messageOf(error)}`, { cause: error });
  }
}

async function download(
  { manifest }: RestoreRequest,
  { session, proxyUrl }: RestoreParts,
): Promise<Manifest> {
  if (manifest === undefined) throw new Error('no manifest was given');
  if (manifest.bytes > MAX_MANIFEST_BYTES) throw new Error(`the manifest has ${manifest.bytes} bytes`);
  const bytes = await twice(() =>
    get(manifest.url, proxyUrl, async (body) => {
      const pieces: Buffer[] = [];
      for await (const piece of measured(body, manifest)) pieces.push(piece);
      return Buffer.concat(pieces);
    }),
  );
  return decodeManifest(bytes, session);
}

/** Passes bytes on and fails, at the latest at their end, when they aren't the object that was asked for. */
async function* measured(body: Readable, { sha256, bytes }: PackObject): AsyncGenerator<Buffer> {
  const sum = createHash('sha256');
  let got = 0;
  for await (const piece of body as AsyncIterable<Buffer>) {
    got += piece.length;
    if (got > bytes) break;
    sum.update(piece);
    yield piece;
  }
  if (got !== bytes)
    throw new Error(`object ${sha256} has ${got > bytes ? 'more' : 'less'} than ${bytes} bytes`);
  if (sum.digest('hex') !== sha256) throw new Error(`object ${sha256} has another hash`);
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
