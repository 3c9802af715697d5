import type { Readable } from 'node:stream';
import { CodedError } from '../errors.ts';

/** No line of an agent is longer: output comes in pieces far below this. */
const MOST_LINE_BYTES = 8 * 1024 * 1024;

/** The values of an NDJSON stream. Reads on only as fast as they are taken. */
export async function* jsonLines<T>(body: Readable): AsyncGenerator<T, void, undefined> {
  let rest: Buffer[] = [];
  let restBytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    let from = 0;
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, from)) {
      const line = Buffer.concat([...rest, chunk.subarray(from, end)]);
      rest = [];
      restBytes = 0;
      from = end + 1;
      if (line.length > 0) yield parse<T>(line);
    }
    if (from === chunk.length) continue;
    rest.push(chunk.subarray(from));
    restBytes += chunk.length - from;
    if (restBytes > MOST_LINE_BYTES)
      throw new CodedError('internal', `A line of the agent has over ${restBytes} bytes`);
  }
}

function parse<T>(line: Buffer): T {
  try {
    return JSON.parse(line.toString()) as T;
  } catch (cause) {
    throw new CodedError('internal', 'A line of the agent is not JSON', { cause });
  }
}
