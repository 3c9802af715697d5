import type { LongAnswer } from '../../../controller/agents/wire.ts';
import { toFault } from '../fault.ts';
import { log } from '../log.ts';
import type { Call } from './call.ts';
import { Lines } from './lines.ts';

const BEAT_MS = 1_000;

/** Is told that so many bytes more, and so many files more, are done. */
export type Progress = (bytes: number, files?: number) => void;

/** Answers by lines that tell of progress, and at last with the result; see `LongAnswer`. `signal` is aborted when nobody listens any more. */
export async function answerLong<T>(
  call: Call,
  work: (progress: Progress, signal: AbortSignal) => Promise<T>,
): Promise<void> {
  const { stream } = call;
  const left = new AbortController();
  let lines: Lines | undefined;
  let done = { bytes: 0, files: 0 };
  let told = done;
  const begin = (): Lines | undefined => {
    if (stream.destroyed || stream.closed) return undefined;
    lines ??= new Lines(stream);
    return lines;
  };
  const write = (line: LongAnswer<T>) => begin()?.write(line);
  const beat = setInterval(() => {
    begin();
    if (done === told) return;
    told = done;
    write({ type: 'progress', bytes: done.bytes, ...(done.files > 0 && { files: done.files }) });
  }, BEAT_MS);
  // Before the answer has ended only a reset closes the stream.
  stream.once('close', () => left.abort(new Error('nobody waits for the answer any more')));
  try {
    const result = await work((bytes, files = 0) => {
      done = { bytes: done.bytes + bytes, files: done.files + files };
    }, left.signal);
    begin()?.end({ type: 'result', result } satisfies LongAnswer<T>);
  } catch (error) {
    // What fails at once is answered as it always was.
    if (lines === undefined) throw error;
    const fault = toFault(error);
    if (fault.code === 'internal') log('error', 'request failed', { path: call.path, detail: fault.detail });
    lines.end({ type: 'error', error: fault.toWire() } satisfies LongAnswer<T>);
  } finally {
    clearInterval(beat);
  }
}
