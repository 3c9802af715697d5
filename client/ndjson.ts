import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';

/**
 * The lines of a stream as JSON, a batch for each chunk that arrives. A last line without its end is dropped: it is not whole.
 * Whoever stops reading calls `leave`.
 */
export async function* readLines<T>(stream: Readable): AsyncGenerator<T[]> {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    const text = rest + decoder.write(chunk);
    const end = text.lastIndexOf('\n');
    rest = text.slice(end + 1);
    if (end < 0) continue;
    yield text
      .slice(0, end)
      .split('\n')
      .map((line) => JSON.parse(line));
  }
}

/**
 * Leaves a stream of lines. Where its last line was read, only the end of the answer is to come, and then the next request can
 * use the connection; otherwise the connection is given up.
 */
export function leave(stream: Readable, lastLineRead: boolean): void {
  if (lastLineRead) stream.on('error', () => {}).resume();
  else stream.destroy();
}
