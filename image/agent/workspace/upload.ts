import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import type { PackObject, UploadRequest } from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';
import { messageOf } from '../log.ts';
import type { EgressProxy } from './connect.ts';
import type { PackSpool } from './pack.ts';
import { put, twice } from './transfer.ts';
import { inTurns } from './turns.ts';

const AT_ONCE = 3;

/** Puts packs and manifest into the storage; done when every one was taken. */
export async function upload(
  spool: PackSpool,
  urls: UploadRequest['urls'],
  proxy: EgressProxy | undefined,
): Promise<void> {
  const objects = [...spool.packs, spool.manifestObject];
  for (const { sha256 } of objects) {
    if (typeof urls?.[sha256] !== 'string' || !URL.canParse(urls[sha256])) {
      throw new Fault('invalid_request', `There is no URL for ${sha256}`, { field: 'urls' });
    }
  }
  await inTurns(objects, AT_ONCE, async ({ sha256, bytes }: PackObject) => {
    const file = join(spool.dir, sha256);
    const body = { bytes, open: () => createReadStream(file, { highWaterMark: 256 << 10 }) };
    try {
      await twice(() => put(urls[sha256]!, body, proxy));
    } catch (error) {
      throw new Fault('save_failed', `${sha256} was not uploaded: ${messageOf(error)}`, { cause: error });
    }
  });
}
