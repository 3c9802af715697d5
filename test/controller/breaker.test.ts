import { describe, expect, it } from 'vitest';
import {
  Breaker,
  type BreakerEvent,
  type BreakerState,
  blame,
  nextBreaker,
} from '../../controller/sessions/breaker.ts';
import type { SandboxRow } from '../../controller/store/rows.ts';

const TIMES = { pauseMs: 30_000, mostPauseMs: 300_000, tryMs: 125_000 };
const closed = (failures = 0): BreakerState => ({ kind: 'closed', failures });
const open = (until: number, pauseMs = 30_000): BreakerState => ({ kind: 'open', until, pauseMs, why: 'x' });
const trying = (session: string, until: number, pauseMs = 30_000): BreakerState => ({
  kind: 'trying',
  session,
  until,
  pauseMs,
  why: 'x',
});
const asked = (session = 'a'): BreakerEvent => ({ kind: 'asked', session });
const failed = (session = 'a'): BreakerEvent => ({ kind: 'failed', session, why: 'x' });
const ended = (session = 'a'): BreakerEvent => ({ kind: 'ended', session });
const started: BreakerEvent = { kind: 'started' };

describe('nextBreaker, at 1,000 ms', () => {
  it.each<[string, BreakerState, BreakerEvent, BreakerState, (number | null)?]>([
    ['closed lets start', closed(), asked(), closed()],
    ['so it does after failures that are too few', closed(2), asked(), closed(2)],
    ['the first failure is counted', closed(), failed(), closed(1)],
    ['the second as well', closed(1), failed(), closed(2)],
    ['the third opens it', closed(2), failed(), open(31_000)],
    ['a good start between them begins anew', closed(2), started, closed()],
    ['a start that says nothing is not counted', closed(2), ended(), closed(2)],
    ['open refuses until its time', open(31_000), asked(), open(31_000), 30_000],
    ['then one may try', open(1_000), asked('b'), trying('b', 126_000)],
    ['a late failure does not prolong it', open(31_000), failed('b'), open(31_000)],
    ['a late good start closes it', open(31_000), started, closed()],
    ['who tries is not held up by itself', trying('b', 126_000), asked('b'), trying('b', 126_000)],
    ['others are, for a while', trying('b', 126_000), asked('a'), trying('b', 126_000), 5_000],
    ['but no longer than it may take', trying('b', 1_500), asked('a'), trying('b', 1_500), 500],
    ['one that was never heard of again is replaced', trying('b', 900), asked('a'), trying('a', 126_000)],
    ['a good start of it closes', trying('b', 126_000), started, closed()],
    ['a failure of it opens for twice as long', trying('b', 126_000), failed('b'), open(61_000, 60_000)],
    ['five minutes at most', trying('b', 2_000, 200_000), failed('b'), open(301_000, 300_000)],
    ['a failure of another changes nothing', trying('b', 126_000), failed('a'), trying('b', 126_000)],
    ['an end that says nothing lets the next try', trying('b', 126_000), ended('b'), open(1_000)],
    ['the end of another changes nothing', trying('b', 126_000), ended('a'), trying('b', 126_000)],
  ])('%s', (_what, state, event, after, waitMs = null) => {
    expect(nextBreaker(state, event, 1_000, TIMES)).toEqual({ state: after, waitMs });
  });
});

describe('blame', () => {
  it.each<[string, string | null, string | null, boolean]>([
    ['its machine ended before the agent had called', 'm1', 'failed session_start_failed: stopped', true],
    ['its agent never called', 'm1', 'failed session_start_timeout: no call', true],
    ['it had no machine in time', null, 'failed session_start_timeout: no machine', false],
    ['Fly refused the image or the settings', null, 'failed session_start_failed: bad image', false],
    ['there was no room', null, 'failed fly_capacity: full', false],
    ['the organisation is full', null, 'failed fly_quota: full', false],
    ['Fly was away', 'm1', 'failed fly_unavailable: away', false],
    ['its files could not be restored', 'm1', 'failed restore_failed: a pack is missing', false],
    ['it was stopped', 'm1', 'requested', false],
    ['nobody says why', 'm1', null, false],
  ])('of a start where %s', (_what, machine_id, reason, blamed) => {
    expect(blame({ machine_id, reason }) !== null).toBe(blamed);
  });
});

describe('Breaker', () => {
  const row = (session: string, changes: Partial<SandboxRow>) =>
    ({
      name: `s-${session}-1`,
      session_id: session,
      machine_id: 'm1',
      reason: null,
      ...changes,
    }) as SandboxRow;
  const dead = (session: string) =>
    row(session, { state: 'destroying', reason: 'failed session_start_failed: Machine m1 was stopped' });

  function setUp() {
    const time = { now: 0 };
    const breaker = new Breaker({ startTimeoutMs: 120_000, monotonic: () => time.now });
    /** A start through all its transitions. */
    const go = (session: string, ...rows: SandboxRow[]) => {
      for (const one of [row(session, { state: 'planned' }), row(session, { state: 'created' }), ...rows]) {
        breaker.changed('image:1', one);
      }
    };
    return { time, breaker, go };
  }

  it('opens after three, says why and when, lets one try, and closes with its success', () => {
    const { time, breaker, go } = setUp();
    for (const session of ['a', 'b']) {
      breaker.guard('image:1', session);
      // The same row on its way out is not another failure.
      go(session, dead(session), dead(session), { ...dead(session), state: 'gone' });
    }
    breaker.guard('image:1', 'c');
    go('c', dead('c'));
    expect(() => breaker.guard('image:1', 'd')).toThrow(
      expect.objectContaining({
        code: 'image_failing',
        retryAfterMs: 30_000,
        detail: expect.stringContaining('Machine m1 was stopped'),
      }),
    );
    expect(breaker.isClosed('image:1')).toBe(false);
    breaker.guard('image:2', 'd');
    time.now = 30_000;
    breaker.guard('image:1', 'd');
    expect(() => breaker.guard('image:1', 'e')).toThrow('image_failing');
    // One that was ready all along says nothing new, though its row was changed.
    breaker.changed('image:1', row('x', { state: 'ready' }));
    expect(breaker.isClosed('image:1')).toBe(false);
    go('d', row('d', { state: 'ready' }));
    breaker.guard('image:1', 'e');
    expect(breaker.isClosed('image:1')).toBe(true);
  });

  it('gives the turn to another where nothing was started, or the start was stopped', () => {
    const { time, breaker, go } = setUp();
    for (const session of ['a', 'b', 'c']) go(session, dead(session));
    time.now = 30_000;
    const place = breaker.guard('image:1', 'd');
    // A repeat of the same open attaches to what is under way, and gives nothing back.
    breaker.guard('image:1', 'd').release();
    expect(() => breaker.guard('image:1', 'e')).toThrow('image_failing');
    place.release();
    breaker.guard('image:1', 'e');
    go('e', row('e', { state: 'destroying', reason: 'requested' }));
    breaker.guard('image:1', 'f');
    expect(() => breaker.guard('image:1', 'e')).toThrow('image_failing');
  });

  it('does not count the stop of a sandbox that was ready, whatever its end', () => {
    const { breaker, go } = setUp();
    for (const session of ['a', 'b', 'c', 'd']) go(session, row(session, { state: 'ready' }), dead(session));
    breaker.guard('image:1', 'e');
  });
});
