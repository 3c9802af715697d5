import { mkdirSync, mkdtempSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PackRequest, PackResult } from '../../../controller/agents/wire.ts';
import { Beneath } from '../../../image/agent/files/beneath.ts';
import { Packer, type PackerParts } from '../../../image/agent/workspace/pack.ts';
import { restore } from '../../../image/agent/workspace/restore.ts';
import { Versions } from '../../../image/agent/workspace/versions.ts';
import type { Storage } from '../storage.ts';

export type Packed = PackResult & { changed: true };

/** A packer of the folder `tree`, all of whose own folders are made below `dir`. */
export function packerOf(tree: string, dir: string, parts: Partial<PackerParts> = {}): Packer {
  return new Packer({
    tree: new Beneath(tree),
    dir: mkdtempSync(join(dir, 'packs-')),
    session: 'test',
    uid: process.getuid!(),
    versions: new Versions(mkdtempSync(join(dir, 'versions-')), 'test'),
    quiet: async (work) => ({ value: await work(), atomic: true, pausedMs: 0 }),
    now: Date.now,
    ...parts,
  });
}

export async function packed(packer: Packer, request: Partial<PackRequest> = {}): Promise<Packed> {
  const result = await packer.pack({ base: 0, ...request });
  if (!result.changed) throw new Error('nothing was packed');
  return result;
}

/** What a later machine gets of it: the folder that it was restored into. */
export async function restored(
  packer: Packer,
  { pack_id, manifest, packs }: Packed,
  storage: Storage,
  dir: string,
): Promise<string> {
  const spool = packer.spool(pack_id);
  for (const { sha256 } of [manifest, ...packs])
    storage.objects.set(sha256, readFileSync(join(spool.dir, sha256)));
  const place = mkdtempSync(join(dir, 'restored-'));
  mkdirSync(place, { recursive: true });
  const withUrl = <T extends { sha256: string }>(object: T) => ({
    ...object,
    url: storage.url(object.sha256),
  });
  await restore(
    { version: 1, manifest: withUrl(manifest), packs: packs.map(withUrl) },
    {
      tree: new Beneath(place),
      session: 'test',
      owner: undefined,
      way: { proxy: undefined },
      patience: { random: () => 0 },
      change: async (moveIn) => moveIn(),
    },
  );
  return place;
}
