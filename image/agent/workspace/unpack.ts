import { pipeline } from 'node:stream/promises';
import { createZstdDecompress } from 'node:zlib';
import { extract } from 'tar-stream';
import { isHash } from './manifest.ts';
import type { Staging } from './staging.ts';
import { writeHashed } from './write-hashed.ts';

/** Reads one pack into the staging tree, blob by blob, each one checked against its name. */
export async function unpack(packed: AsyncIterable<Buffer>, staging: Staging, pack: number): Promise<void> {
  const tar = extract();
  const seen = new Set<string>();
  const read = async () => {
    for await (const entry of tar) {
      const { name, type, size = 0 } = entry.header;
      if (type !== 'file') throw new Error(`pack ${pack} holds a ${type}`);
      if (!isHash(name)) throw new Error(`pack ${pack} holds something that is named by no hash`);
      if (seen.has(name)) throw new Error(`pack ${pack} holds ${name} twice`);
      seen.add(name);
      const content = entry as unknown as AsyncIterable<Buffer>;
      const place = staging.place(pack, name, size);
      if (place === undefined) {
        // It was packed, and had changed when the moment came that was saved.
        for await (const _piece of content);
        continue;
      }
      const { sha256 } = await writeHashed(content, place);
      if (sha256 !== name) throw new Error(`a blob of pack ${pack} is not what its name says`);
      staging.fill(pack, name);
    }
  };
  const sides = await Promise.allSettled([pipeline(packed, createZstdDecompress(), tar), read()]);
  const failures = sides.filter((side) => side.status === 'rejected').map((side) => side.reason);
  // The side that failed cuts the other one off, whose complaint of that says nothing.
  const cause = failures.find(
    ({ code, message }) => code !== 'ERR_STREAM_PREMATURE_CLOSE' && !/premature/i.test(message),
  );
  if (failures.length > 0) throw cause ?? failures[0];
}
