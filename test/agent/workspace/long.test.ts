import { once } from 'node:events';
import { expect, test } from 'vitest';
import { Fault } from '../../../image/agent/fault.ts';
import { answerLong, type Progress } from '../../../image/agent/http/long.ts';
import { taken } from './long.ts';
import { answerOf, Routed } from './routed.ts';

/** A long call whose end is in the hands of the test. */
async function begun(routed: Routed) {
  const work = Promise.withResolvers<unknown>();
  const started = Promise.withResolvers<{ progress: Progress; signal: AbortSignal }>();
  routed.router.on('POST', '/long', (call) =>
    answerLong(call, (progress, signal) => {
      started.resolve({ progress, signal });
      return work.promise;
    }),
  );
  const stream = routed.open('POST', '/long').end();
  return { work, stream, ...(await started.promise) };
}

test('progress is told where there is some, and the result at last', async () => {
  await using routed = await Routed.start();
  const { work, stream, progress } = await begun(routed);
  const answer = answerOf(stream);
  progress(10);
  progress(5, 2);
  await once(stream, 'data');
  work.resolve({ well: true });
  const { text } = taken(await answer);
  expect(
    text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line)),
  ).toEqual([
    { type: 'progress', bytes: 15, files: 2 },
    { type: 'result', result: { well: true } },
  ]);
});

test('an error is the last line where the answer has begun, and has its status where it has not', async () => {
  await using routed = await Routed.start();
  const failure = new Fault('storage_full', 'no room', { object: 'abc', storageStatus: 413 });
  const error = { code: 'storage_full', detail: 'no room', object: 'abc', status: 413 };
  const late = await begun(routed);
  const answer = answerOf(late.stream);
  await once(late.stream, 'response');
  late.work.reject(failure);
  expect(taken(await answer)).toMatchObject({ status: 200, progress: [], error });

  const early = await begun(routed);
  const refused = answerOf(early.stream);
  early.work.reject(failure);
  expect([(await refused).status, (await refused).json()]).toEqual([503, error]);
});

test('the work is told when nobody waits for its answer any more', async () => {
  await using routed = await Routed.start();
  const { work, stream, signal } = await begun(routed);
  stream.close(8);
  if (!signal.aborted) await once(signal, 'abort');
  work.reject(signal.reason);
});
