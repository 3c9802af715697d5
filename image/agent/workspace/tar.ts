import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { type Pack, pack } from 'tar-stream';
import { Fault } from '../fault.ts';
import type { Beneath } from '../files/beneath.ts';
import { type OpenFile, openFile, openFileNow } from '../files/read.ts';
import { log } from '../log.ts';
import { pieces, SMALL_BYTES } from './hashes.ts';
import { type Found, unlessReadable, walk } from './walk.ts';

/** The workspace as a tar: all that a save would hold. Nothing is held still for it. */
export function tarOf(tree: Beneath, uid: number): Readable {
  const tar = pack();
  write(tar, tree, uid).then(
    () => tar.finalize(),
    (error) => tar.destroy(error),
  );
  return Readable.from(tar as unknown as AsyncIterable<Buffer>, { objectMode: false });
}

async function write(tar: Pack, tree: Beneath, uid: number): Promise<void> {
  const { found, leftOut } = await walk(tree);
  if (leftOut.length > 0) log('warn', 'not in the tar', { paths: leftOut });
  for (const each of found) {
    if (each.type === 'directory')
      await add(tar, { ...headerOf(each), type: 'directory', name: `${each.path}/` });
    else if (each.type === 'symlink')
      await add(tar, { ...headerOf(each), type: 'symlink', linkname: each.target });
    else await addFile(tar, tree, each, uid);
  }
}

/** The size stands before the bytes. A small file is read before it is told; a large one that gets shorter meanwhile breaks the tar off. */
async function addFile(tar: Pack, tree: Beneath, each: Found, uid: number): Promise<void> {
  const { path, stat } = each;
  const opened = await open(tree, path, stat.size, uid).catch(unlessReadable);
  if (opened === undefined) return;
  if (Buffer.isBuffer(opened)) return add(tar, { ...headerOf(each), size: opened.length }, [opened]);
  await using file = opened;
  const { size } = file.stat;
  await add(tar, { ...headerOf({ ...each, stat: file.stat }), size }, exactly(file, size, path));
}

async function open(tree: Beneath, path: string, size: number, uid: number): Promise<Buffer | OpenFile> {
  using place = tree.find(path);
  if (size > SMALL_BYTES) return openFile(place.at, path, uid);
  {
    using file = openFileNow(place.at, path, uid);
    if (file.stat.size <= SMALL_BYTES) return readFileSync(file.fd);
  }
  return openFile(place.at, path, uid);
}

async function* exactly(file: OpenFile, size: number, path: string): AsyncGenerator<Buffer> {
  let sent = 0;
  for await (const piece of pieces(file.handle, size)) {
    sent += piece.length;
    // What is given is written later, when the next piece is already being read.
    yield Buffer.from(piece);
  }
  if (sent < size) throw new Fault('internal', `"${path}" became shorter while it was read`);
}

/** A time of its own in fractions of a second is not in the old format. */
function headerOf({ path, stat }: Pick<Found, 'path' | 'stat'>) {
  const pax = { mtime: (stat.mtimeMs / 1000).toFixed(6) };
  return { name: path, mode: stat.mode & 0o7777, mtime: stat.mtime, pax };
}

function add(
  tar: Pack,
  header: Parameters<Pack['entry']>[0],
  content: Iterable<Buffer> | AsyncIterable<Buffer> = [],
): Promise<void> {
  return new Promise((resolve, reject) => {
    const entry = tar.entry(header, (error) => (error ? reject(error) : resolve()));
    // Without a listener it would end the agent.
    entry.on('error', reject);
    feed(entry, content).catch((error) => entry.destroy(error));
  });
}

async function feed(
  entry: NodeJS.WritableStream,
  content: Iterable<Buffer> | AsyncIterable<Buffer>,
): Promise<void> {
  for await (const piece of content) {
    if (!entry.write(piece))
      await new Promise<void>((resolve) => {
        entry.once('drain', resolve);
        entry.once('close', resolve);
      });
  }
  entry.end();
}
