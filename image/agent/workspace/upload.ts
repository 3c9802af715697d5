import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import type { PackObject, UploadRequest } from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';
import { messageOf } from '../log.ts';
import { type Patience, persist, storageCode } from './retry.ts';
import type { PackSpool } from './spools.ts';
import { put, StorageError, type Way } from './transfer.ts';
import { inTurns } from './turns.ts';

const AT_ONCE = 3;

/** Puts packs and manifest into the storage; done when every one was taken. Those that were taken before are not sent again. */
export async function upload(
  spool: PackSpool,
  urls: UploadRequest['urls'],
  way: Way,
  patience: Patience,
): Promise<string[]> {
  const objects = [...spool.packs, spool.manifestObject];
  const left = objects.filter(({ sha256 }) => !spool.taken.has(sha256));
  for (const { sha256 } of left) {
    if (typeof urls?.[sha256] !== 'string' || !URL.canParse(urls[sha256])) {
      throw new Fault('invalid_request', `There is no URL for ${sha256}`, { field: 'urls' });
    }
  }
  if (left.length === 0) spool.doubted = true;
  await inTurns(left, AT_ONCE, async ({ sha256, bytes }: PackObject) => {
    const file = join(spool.dir, sha256);
    const body = { bytes, open: () => createReadStream(file, { highWaterMark: 256 << 10 }) };
    try {
      await persist(() => put(urls[sha256]!, body, way), patience);
      spool.taken.add(sha256);
    } catch (error) {
      throw new Fault(storageCode(error), `${sha256} was not uploaded: ${messageOf(error)}`, {
        object: sha256,
        ...(error instanceof StorageError && { storageStatus: error.status }),
        cause: error,
      });
    }
  });
  return objects.map(({ sha256 }) => sha256);
}
