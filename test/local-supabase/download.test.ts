import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import type { Database } from '../../local/supabase/gateway/database.ts';
import type { BlobStore } from '../../local/supabase/gateway/storage/blobs.ts';
import type { StorageContext } from '../../local/supabase/gateway/storage/context.ts';
import { download } from '../../local/supabase/gateway/storage/download.ts';

/** A row that names a new version at each look, of which only those in `onDisk` can be opened. */
function contextWith(onDisk: string[]): StorageContext {
  let looks = 0;
  const query = async () => ({
    rows: [{ row: { version: `v${++looks}`, metadata: { size: 1, eTag: `"${looks}"`, lastModified: 0 } } }],
  });
  return {
    database: { transaction: (_access, work) => work(query as never) } as Database,
    blobs: {
      read: async (version: string) => (onDisk.includes(version) ? Readable.from(['x']) : undefined),
    } as Partial<BlobStore> as BlobStore,
    jwtSecret: '',
    maxObjectBytes: 1,
    now: () => new Date(0),
  };
}

const request = {
  message: { headers: {} } as IncomingMessage,
  role: 'service_role' as const,
  path: '',
  params: new URLSearchParams(),
};
const name = { bucket: 'b', key: 'k' };

test('a version replaced between the look at its row and the opening of its file is looked up again', async () => {
  expect(await download(request, name, contextWith(['v2']))).toMatchObject({
    status: 200,
    headers: { etag: '"2"' },
  });
});

test('bytes that stay missing are an error, not an endless search', async () => {
  await expect(download(request, name, contextWith([]))).rejects.toMatchObject({ statusCode: 500 });
});
