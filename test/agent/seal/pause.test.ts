import { expect, test } from 'vitest';
import { Gate } from '../../../image/agent/seal/gate.ts';
import { pauseFor } from '../../../image/agent/seal/pause.ts';
import type { UserProcesses } from '../../../image/agent/user/quiet.ts';

/** Processes that say what is done to them. */
function scene(options: { freeze?: () => Promise<void>; running?: number } = {}) {
  const done: string[] = [];
  const gate = new Gate({ holdPatienceMs: 1 });
  const processes: Pick<UserProcesses, 'freeze' | 'count'> = {
    count: () => options.running ?? 0,
    freeze: async () => {
      await options.freeze?.();
      done.push('freeze');
      return async () => void done.push('thaw');
    },
  };
  const pause = pauseFor({ gate, processes: processes as UserProcesses, now: Date.now });
  const work = async () => {
    done.push('work');
    return 5;
  };
  return { gate, pause, work, done };
}

test('work is done between freeze and thaw, while the gate is held', async () => {
  const { gate, pause, work, done } = scene();
  const pausing = pause(work, 60_000);
  const change = gate.admit(() => done.push('change'));
  expect(await pausing).toEqual({ value: 5, atomic: true, pausedMs: expect.any(Number) });
  await change;
  expect(done).toEqual(['freeze', 'work', 'thaw', 'change']);
});

test('work that fails does not keep the processes still', async () => {
  const { pause, done } = scene();
  await expect(pause(() => Promise.reject(new Error('disk')), 60_000)).rejects.toThrow('disk');
  expect(done).toEqual(['freeze', 'thaw']);
});

test('work that takes too long goes on without the pause, and so does work at the seal', async () => {
  for (const [mostMs, seal] of [
    [1, false],
    [60_000, true],
  ] as const) {
    const { gate, pause, done } = scene();
    const end = Promise.withResolvers<string>();
    const begun = Promise.withResolvers<void>();
    const pausing = pause(() => {
      begun.resolve();
      return end.promise;
    }, mostMs);
    await begun.promise;
    if (seal) await gate.close();
    else await gate.admit(() => done.push('change'));
    expect(done.slice(0, 2)).toEqual(['freeze', 'thaw']);
    end.resolve('done');
    expect(await pausing).toMatchObject({ value: 'done', atomic: false });
  }
});

test('where nothing can be held the work is done all the same, once', async () => {
  const frozen = scene({ freeze: () => Promise.reject(new Error('it forks')) });
  expect(await frozen.pause(frozen.work, 60_000)).toEqual({ value: 5, atomic: false, pausedMs: 0 });
  expect(frozen.done).toEqual(['work']);

  const busy = scene();
  const slow = Promise.withResolvers<void>();
  const change = busy.gate.admit(() => slow.promise);
  expect(await busy.pause(busy.work, 60_000)).toMatchObject({ value: 5, atomic: false });
  slow.resolve();
  await change;
});

test('without a pause nothing is held; of a sealed sandbox everything stands still by itself', async () => {
  const { gate, pause, work, done } = scene();
  expect(await pause(work, 0)).toEqual({ value: 5, atomic: false, pausedMs: 0 });
  await gate.close();
  expect(await pause(work, 0)).toEqual({ value: 5, atomic: true, pausedMs: 0 });
  expect(done).toEqual(['work', 'work']);
});
