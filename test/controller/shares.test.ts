import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { planShares, type SharesView } from '../../controller/sessions/shares.ts';

type Cell = SharesView['cells'][number];
const free = (app: string): Cell => ({ app, holder: null, free: true });
const held = (app: string, holder: string): Cell => ({ app, holder, free: false });

describe('planShares', () => {
  type Given = Omit<SharesView, 'held' | 'able'> & { held?: string[]; able?: string[] };
  const cases: [what: string, view: Given, plan: object][] = [
    [
      'alone, it takes all',
      { cells: [free('a'), free('b')], controllers: ['me'], me: 'me' },
      { take: ['a', 'b'] },
    ],
    [
      'it takes nothing that another holds',
      { cells: [held('a', 'x')], controllers: ['me', 'x'], me: 'me' },
      {},
    ],
    [
      'it takes its share and leaves the rest',
      { cells: [free('a'), free('b')], controllers: ['me', 'x'], me: 'me' },
      { take: ['a'] },
    ],
    [
      'it gives back what is above its share',
      { cells: [held('a', 'me'), held('b', 'me')], controllers: ['me', 'x'], me: 'me', held: ['a', 'b'] },
      { giveBack: ['b'] },
    ],
    [
      'of an odd number, who holds more keeps more',
      {
        cells: [held('a', 'x'), held('b', 'me'), held('c', 'me')],
        controllers: ['me', 'x'],
        me: 'me',
        held: ['b', 'c'],
      },
      {},
    ],
    [
      'what was held from its address before is its own',
      { cells: [held('a', 'me')], controllers: ['me'], me: 'me' },
      { take: ['a'] },
    ],
    [
      'more controllers than cells: one waits',
      { cells: [held('a', 'x')], controllers: ['me', 'x'], me: 'me' },
      {},
    ],
    [
      'one that does not reach Fly gives all to those that do, and takes none',
      {
        cells: [held('a', 'me'), held('b', 'x'), free('c')],
        controllers: ['me', 'x'],
        able: ['x'],
        me: 'me',
        held: ['a'],
      },
      { giveBack: ['a'] },
    ],
    [
      'one that does has the share of those that do not',
      {
        cells: [free('a'), held('b', 'x'), free('c')],
        controllers: ['me', 'x'],
        able: ['me'],
        me: 'me',
      },
      { take: ['a', 'c'] },
    ],
    [
      'where none does, nothing is given back',
      {
        cells: [held('a', 'me'), held('b', 'me')],
        controllers: ['me', 'x'],
        able: [],
        me: 'me',
        held: ['a', 'b'],
      },
      {},
    ],
    [
      'and what nobody works for is taken all the same',
      { cells: [free('a'), held('b', 'x')], controllers: ['me', 'x'], able: [], me: 'me' },
      { take: ['a'] },
    ],
    [
      'who alone is left keeps its cells without Fly',
      { cells: [held('a', 'me')], controllers: ['me'], able: ['gone'], me: 'me', held: ['a'] },
      {},
    ],
  ];
  it.each(cases)('%s', (_what, view, plan) => {
    const { held: mine = [], able = view.controllers, ...rest } = view;
    expect(planShares({ ...rest, able, held: new Set(mine) })).toEqual({ take: [], giveBack: [], ...plan });
  });

  it('comes to even shares from anywhere, whoever acts when, and then rests', () => {
    const world = fc.record({
      cells: fc.integer({ min: 1, max: 9 }),
      controllers: fc.integer({ min: 1, max: 5 }),
      holders: fc.array(fc.integer({ min: -1, max: 7 }), { minLength: 9, maxLength: 9 }),
      turns: fc.array(fc.nat(4), { minLength: 40, maxLength: 40 }),
      unable: fc.array(fc.boolean(), { minLength: 5, maxLength: 5 }),
    });
    fc.assert(
      fc.property(world, ({ cells: count, controllers: alive, holders, turns, unable }) => {
        const controllers = Array.from({ length: alive }, (_, n) => `c${n}`);
        const able = controllers.filter((_, n) => !unable[n]);
        // Those of the dead have run out.
        const holder = new Map<string, string | null>(
          Array.from({ length: count }, (_, n) => [`cell-${n}`, controllers[holders[n]!] ?? null]),
        );
        const view = (): Cell[] => [...holder].map(([app, by]) => (by === null ? free(app) : held(app, by)));
        const act = (me: string): number => {
          const mine = new Set([...holder].filter(([, by]) => by === me).map(([app]) => app));
          const { take, giveBack } = planShares({ cells: view(), controllers, able, me, held: mine });
          for (const app of giveBack) holder.set(app, null);
          for (const app of take) if (holder.get(app) === null) holder.set(app, me);
          return take.length + giveBack.length;
        };
        for (const turn of turns) act(controllers[turn % alive]!);
        // Each has its turn now and then.
        for (let round = 0; round < 3; round++) for (const me of controllers) act(me);
        const sizeOf = (me: string) => [...holder.values()].filter((by) => by === me).length;
        expect([...holder.values()]).not.toContain(null);
        if (able.length > 0) {
          const sizes = able.map(sizeOf);
          expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(count);
          expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
        }
        expect(controllers.map(act)).toEqual(controllers.map(() => 0));
      }),
      { numRuns: 500 },
    );
  });

  it('moves nothing from one to another where none reaches Fly, whoever acts when', () => {
    const world = fc.record({
      holders: fc.array(fc.nat(3), { minLength: 1, maxLength: 9 }),
      turns: fc.array(fc.nat(3), { maxLength: 20 }),
    });
    fc.assert(
      fc.property(world, ({ holders, turns }) => {
        const controllers = ['c0', 'c1', 'c2', 'c3'];
        const cells = holders.map((by, n) => held(`cell-${n}`, controllers[by]!));
        for (const turn of turns) {
          const me = controllers[turn]!;
          const mine = new Set(cells.filter(({ holder }) => holder === me).map(({ app }) => app));
          const plan = planShares({ cells, controllers, able: [], me, held: mine });
          expect(plan).toEqual({ take: [], giveBack: [] });
        }
      }),
    );
  });
});
