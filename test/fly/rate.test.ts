import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GET_MACHINE, PER_ACTION, type RateLimit, RateLimiter } from '../../fly/rate.ts';

/** Time that only `advance` moves; it wakes sleepers in the order of their time. */
function virtualTime() {
  let now = 0;
  const sleepers: { at: number; wake: () => void }[] = [];
  return {
    clock: () => now,
    sleep: (ms: number) => new Promise<void>((wake) => sleepers.push({ at: now + ms, wake })),
    async advance(ms: number) {
      const end = now + ms;
      for (;;) {
        await setImmediate();
        const next = sleepers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
        if (next === undefined) break;
        sleepers.splice(sleepers.indexOf(next), 1);
        now = Math.max(now, next.at);
        next.wake();
      }
      now = end;
    },
  };
}

function setUp() {
  const time = virtualTime();
  const limiter = new RateLimiter(time.clock, time.sleep);
  const passed: { name: string; at: number }[] = [];
  const never = new AbortController().signal;
  const come = (name: string, key = 'start app/m1', signal = never, limit: RateLimit = PER_ACTION) =>
    limiter.acquire(key, limit, signal).then(() => {
      passed.push({ name, at: time.clock() });
    });
  const names = (): string[] => passed.map(({ name }) => name);
  return { time, limiter, passed, come, names };
}

describe('RateLimiter', () => {
  it('lets a burst of three pass, then about one a second, in the order of arrival', async () => {
    const { time, passed, come } = setUp();
    for (const name of ['a', 'b', 'c', 'd', 'e', 'f']) void come(name);
    await time.advance(0);
    expect(passed.map(({ at }) => at)).toEqual([0, 0, 0]);
    await time.advance(10_000);
    expect(passed.map(({ name }) => name)).toEqual(['a', 'b', 'c', 'd', 'e', 'f']);
    expect(passed.slice(3).map(({ at }) => at)).toEqual([1053, 2106, 3158]);
  });

  it('counts every key by itself', async () => {
    const { time, come, names } = setUp();
    for (const name of ['a', 'b', 'c', 'd']) void come(name);
    void come('other machine', 'start app/m2');
    void come('other action', 'stop app/m1');
    await time.advance(0);
    expect(names()).toEqual(['a', 'b', 'c', 'other machine', 'other action']);
    await time.advance(1_100);
  });

  it('is wider for GET machine', async () => {
    const { time, come, names } = setUp();
    for (let n = 0; n < 20; n++) void come(`${n}`, 'get', undefined, GET_MACHINE);
    await time.advance(0);
    expect(names()).toHaveLength(10);
    await time.advance(1_100);
    expect(names()).toHaveLength(15);
    await time.advance(1_100);
    expect(names()).toHaveLength(20);
  });

  it('refills with time, to the burst and no further', async () => {
    const { time, come, names } = setUp();
    for (const name of ['a', 'b', 'c']) void come(name);
    await time.advance(60_000);
    for (const name of ['d', 'e', 'f', 'g']) void come(name);
    await time.advance(0);
    expect(names()).toEqual(['a', 'b', 'c', 'd', 'e', 'f']);
    await time.advance(2_000);
  });

  it('lets who is aborted go at once, and gives the place to the next', async () => {
    const { time, come, names } = setUp();
    for (const name of ['a', 'b', 'c']) void come(name);
    const abort = new AbortController();
    const gaveUp = come('d', undefined, abort.signal);
    void come('e');
    await time.advance(500);
    abort.abort();
    await expect(gaveUp).rejects.toThrow();
    await time.advance(553);
    expect(names()).toEqual(['a', 'b', 'c', 'e']);
  });

  it('does not take who is aborted already', async () => {
    const { come, names } = setUp();
    await expect(come('a', undefined, AbortSignal.abort())).rejects.toThrow();
    expect(names()).toEqual([]);
  });

  it('tells how long the wait would be', async () => {
    const { time, limiter, come } = setUp();
    expect(limiter.expectedWaitMs('start app/m1', PER_ACTION)).toBe(0);
    for (const name of ['a', 'b', 'c', 'd']) void come(name);
    expect(limiter.expectedWaitMs('start app/m1', PER_ACTION)).toBe(2106);
    await time.advance(5_000);
  });

  it('holds the others back when Fly refuses all the same', async () => {
    const { time, limiter, come, names } = setUp();
    await come('a');
    limiter.refused('start app/m1', PER_ACTION);
    void come('b');
    await time.advance(1_000);
    expect(names()).toEqual(['a']);
    await time.advance(53);
    expect(names()).toEqual(['a', 'b']);
  });

  it('forgets keys that are idle, however many there were', async () => {
    const { time, limiter, come } = setUp();
    for (let n = 0; n < 5_000; n++) void come(`${n}`, `start app/m${n}`);
    await time.advance(0);
    expect(limiter.size).toBe(5_000);
    await time.advance(1_100);
    await come('last', 'start app/last');
    expect(limiter.size).toBe(1);
  });

  it('never lets more pass in any window than Fly would', async () => {
    const arrivals = fc.array(fc.integer({ min: 0, max: 3_000 }), { minLength: 1, maxLength: 25 });
    await fc.assert(
      fc.asyncProperty(arrivals, async (gaps) => {
        const { time, passed, come } = setUp();
        for (const gap of gaps) {
          await time.advance(gap);
          void come('x');
        }
        await time.advance(60_000);
        expect(passed).toHaveLength(gaps.length);
        for (let from = 0; from < passed.length; from++) {
          for (let to = from + 3; to < passed.length; to++) {
            const seconds = (passed[to]!.at - passed[from]!.at) / 1000;
            expect(to - from + 1).toBeLessThanOrEqual(3 + seconds);
          }
        }
      }),
      { numRuns: 50 },
    );
  });
});
