import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FlyReach } from '../../controller/sessions/fly-reach.ts';
import type { FlyErrorKind } from '../../fly/index.ts';

type Step = [atMs: number, error: FlyErrorKind | undefined];

function ableAfter(steps: Step[]): boolean {
  let now = 0;
  const reach = new FlyReach({ monotonic: () => now, ask: async () => {} });
  for (const [at, error] of steps) {
    now = at;
    reach.saw({ error });
  }
  return reach.able;
}

describe('a controller that calls Fly', () => {
  const cases: [what: string, steps: Step[], able: boolean][] = [
    ['is able before its first call', [], true],
    ['is able after an answer', [[0, undefined]], true],
    [
      'is able after failures of less than a minute',
      [
        [0, 'platform'],
        [59_999, 'platform'],
      ],
      true,
    ],
    [
      'is not after failures for a minute',
      [
        [0, 'platform'],
        [30_000, 'unknown_outcome'],
        [60_000, 'platform'],
      ],
      false,
    ],
    ['is able after one failure, however long ago', [[0, 'platform']], true],
    [
      'counts from the last answer on',
      [
        [0, 'platform'],
        [50_000, undefined],
        [60_000, 'platform'],
        [100_000, 'platform'],
      ],
      true,
    ],
    [
      'is able again after one answer',
      [
        [0, 'platform'],
        [90_000, 'platform'],
        [91_000, undefined],
      ],
      true,
    ],
    [
      'takes any word of Fly’s for an answer',
      [
        [0, 'platform'],
        [59_000, 'rate'],
        [61_000, 'platform'],
      ],
      true,
    ],
    [
      'takes “not found” for one',
      [
        [0, 'platform'],
        [59_000, 'not_found'],
        [61_000, 'platform'],
      ],
      true,
    ],
    [
      'takes no word about its token for one',
      [
        [0, 'platform'],
        [59_000, 'auth'],
        [61_000, 'platform'],
      ],
      false,
    ],
    [
      'nor for a failure',
      [
        [0, 'auth'],
        [90_000, 'auth'],
      ],
      true,
    ],
  ];
  it.each(cases)('%s', (_what, steps, able) => {
    expect(ableAfter(steps)).toBe(able);
  });

  it('is unable only if it had no answer between two failures a minute apart', () => {
    const step = fc.record({
      after: fc.nat(40_000),
      error: fc.constantFrom<FlyErrorKind | undefined>(
        'platform',
        'unknown_outcome',
        undefined,
        'capacity',
        'auth',
      ),
    });
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        let at = 0;
        const timed = steps.map(({ after, error }): Step => {
          at += after;
          return [at, error];
        });
        const last = timed.findLastIndex(([, error]) => error === undefined || error === 'capacity');
        const failed = timed.slice(last + 1).filter(([, error]) => error !== 'auth');
        const span = failed.length === 0 ? 0 : failed.at(-1)![0] - failed[0]![0];
        expect(ableAfter(timed)).toBe(span < 60_000);
      }),
    );
  });

  it('is asked where nobody else calls, more often while it does not answer, and no more when it ends', async () => {
    const asked: string[] = [];
    let failing = false;
    const times = { unableAfterMs: 20, askAgainMs: 5, askIdleMs: 10 };
    const reach: FlyReach = new FlyReach({
      monotonic: () => performance.now(),
      times,
      ask: async () => {
        asked.push(failing ? 'in vain' : 'answered');
        reach.saw({ error: failing ? 'platform' : undefined });
        if (failing) throw new Error('no way');
      },
    });
    reach.start();
    await expect.poll(() => asked.length).toBeGreaterThan(1);
    failing = true;
    await expect.poll(() => reach.able).toBe(false);
    failing = false;
    await expect.poll(() => reach.able).toBe(true);
    reach.stop();
    const count = asked.length;
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(asked.length).toBeLessThanOrEqual(count + 1);
  });
});
