import fc from 'fast-check';
import type { Logger } from 'pino';
import { Registry } from 'prom-client';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { DatabaseClock, watchClock } from '../../controller/telemetry/clock.ts';
import { World } from './world.ts';

/** A computer whose clock is `ahead` of the database's; both and the monotonic one go at the same pace. */
function computer(ahead: number) {
  const state = { elapsed: 0, ahead };
  const told: [level: string, skewMs: number][] = [];
  const say =
    (level: string) =>
    ({ skewMs }: { skewMs: number }) =>
      told.push([level, skewMs]);
  const log = { warn: say('warn'), info: say('info') } as unknown as Logger;
  const database = () => T0 + state.elapsed;
  const clock = new DatabaseClock({
    monotonic: () => 777 + state.elapsed,
    local: () => database() + state.ahead,
    log,
  });
  /** One question: on the way, answered there, on the way back. */
  const ask = (there: number, back: number): void => {
    const asked = 777 + state.elapsed;
    state.elapsed += there;
    const now = database();
    state.elapsed += back;
    clock.set(now, asked, 777 + state.elapsed);
  };
  return { state, told, clock, database, ask };
}
const T0 = Date.UTC(2030, 0, 1);

describe('the database’s clock', () => {
  it('is the computer’s own before the first answer, and the database’s from then on', () => {
    const { clock, ask, database, state } = computer(150_000);
    expect(clock.now()).toBe(database() + 150_000);
    ask(10, 10);
    expect(clock.now()).toBe(database());
    state.elapsed += 3_600_000;
    // Whatever somebody sets the computer's to.
    state.ahead = -86_400_000;
    expect(clock.now()).toBe(database());
  });

  it('is never wrong by more than an answer took, goes back by no more than that, and a slow answer moves nothing', () => {
    const trip = fc.record({ there: fc.nat(9_000), back: fc.nat(9_000), pause: fc.nat(20_000) });
    fc.assert(
      fc.property(
        fc.integer({ min: -1e9, max: 1e9 }),
        fc.array(trip, { minLength: 1, maxLength: 20 }),
        (ahead, trips) => {
          const { clock, ask, database, state } = computer(ahead);
          let best = Number.POSITIVE_INFINITY;
          for (const { there, back, pause } of trips) {
            const before = clock.now() - database();
            ask(there, back);
            best = Math.min(best, there + back);
            const error = clock.now() - database();
            expect(Math.abs(error)).toBeLessThanOrEqual(best);
            // Closer with each answer, never further away.
            expect(Math.abs(error)).toBeLessThanOrEqual(Math.max(Math.abs(before), best));
            const read = clock.now();
            state.elapsed += pause;
            expect(clock.now() - read).toBe(pause);
          }
          expect(clock.skewMs).toBeGreaterThanOrEqual(ahead - 18_000);
          expect(clock.skewMs).toBeLessThanOrEqual(ahead + 18_000);
        },
      ),
    );
  });

  it('follows a database whose clock was set, and takes no nonsense', () => {
    const { clock, ask, database, state } = computer(0);
    ask(5, 5);
    clock.set(Number.NaN, 0, 1);
    clock.set(T0 + 1e9, 10, 5);
    expect(clock.now()).toBe(database());
    clock.set(database() + 60_000, 777 + state.elapsed - 2, 777 + state.elapsed);
    expect(clock.now() - database()).toBeGreaterThanOrEqual(60_000);
    expect(clock.now() - database()).toBeLessThanOrEqual(60_002);
  });

  it('tells of a computer that is off once, again when that changes, and when it is right again', () => {
    const { ask, told, state, clock } = computer(4_000);
    ask(5, 5);
    expect(told).toEqual([]);
    state.ahead = 150_000;
    for (let n = 0; n < 5; n++) ask(5, 5);
    expect(told).toEqual([['warn', 150_000]]);
    state.ahead = 152_000;
    ask(5, 5);
    state.ahead = -150_000;
    ask(5, 5);
    ask(5, 5);
    state.ahead = 0;
    ask(5, 5);
    expect(told).toEqual([
      ['warn', 150_000],
      ['warn', -150_000],
      ['info', 0],
    ]);
    expect(clock.skewMs).toBe(0);
  });

  it('is in the metrics', async () => {
    const registry = new Registry();
    watchClock(registry, { skewMs: -1_500 });
    expect(await registry.metrics()).toContain('mobvibe_clock_skew_seconds -1.5');
  });
});

describe('a controller on a computer whose clock is wrong', () => {
  let world: World;
  beforeAll(async () => {
    world = await World.start();
  });
  afterEach(() => world.closeAll());
  afterAll(() => world.end());

  it.each([150_000, -150_000, 3_600_000])('by %i ms opens, runs, keeps and stops as any', async (off) => {
    const app = await world.app();
    const controller = await world.controller(app, {
      env: { MOBVIBE_CLEANUP_INTERVAL_MS: '100' },
      clock: () => Date.now() + off,
    });
    const id = `off-${off < 0 ? 'behind' : 'ahead'}-${Math.abs(off)}`;
    await controller.manager.createSandbox({ sessionId: id });
    expect(await controller.manager.execCommand(id, 'echo on')).toMatchObject({ stdout: 'on\n' });
    // Neither too old nor too young for several looks of the clean-up.
    const { cells } = controller;
    let looks = 0;
    const { seen } = cells;
    cells.seen = (...args) => {
      looks++;
      seen.apply(cells, args);
    };
    await world.until(() => looks >= 3);
    expect(await world.store.getSession(id)).toMatchObject({ status: 'ready' });
    const metrics = await (await fetch(`${controller.url}/metrics`)).text();
    const skew = Number(/^mobvibe_clock_skew_seconds (.*)$/m.exec(metrics)![1]);
    expect(Math.abs(skew - off / 1000)).toBeLessThan(5);
    await controller.manager.destroySandbox(id);
    expect(await world.store.getSession(id)).toMatchObject({ status: 'stopped', error: null });
  });
});
