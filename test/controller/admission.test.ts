import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CodedError } from '../../controller/errors.ts';
import { Admission, decideStart, type StartView } from '../../controller/sessions/admission.ts';
import type { SandboxRow } from '../../controller/store/rows.ts';

const IDLE: StartView = {
  queued: 0,
  kept: 0,
  tokens: 3,
  ratePerS: 1,
  typicalStartMs: 20_000,
  deadlineMs: 120_000,
  closedMs: 0,
};

describe('decideStart', () => {
  it.each<[string, Partial<StartView>, { waitMs: number } | { retryAfterMs: number }]>([
    ['takes one where nobody waits', {}, { waitMs: 0 }],
    ['takes one that has to wait for its turn', { queued: 2, tokens: -1 }, { waitMs: 2_000 }],
    ['takes the last that is ready in time', { queued: 89, tokens: -89 }, { waitMs: 90_000 }],
    ['refuses the next, until a turn has passed', { queued: 90, tokens: -90 }, { retryAfterMs: 1_000 }],
    ['knows the rate', { queued: 90, tokens: -90, ratePerS: 2 }, { waitMs: 45_500 }],
    [
      'knows how long starts take',
      { queued: 1, tokens: 0, typicalStartMs: 90_000 },
      { retryAfterMs: 16_000 },
    ],
    ['tries one where nobody waits, however long starts took', { typicalStartMs: 90_000 }, { waitMs: 0 }],
    ['takes none where Fly refuses', { closedMs: 2_000 }, { retryAfterMs: 2_000 }],
    ['names the later of two times', { queued: 95, tokens: -95, closedMs: 2_000 }, { retryAfterMs: 6_000 }],
    ['keeps places for those that come back', { queued: 88, kept: 2, tokens: -89 }, { retryAfterMs: 2_000 }],
  ])('%s', (_what, view, expected) => {
    const admitted = 'waitMs' in expected;
    expect(decideStart({ ...IDLE, ...view })).toEqual({ admitted, ...expected });
  });
});

const START_MS = 8_000;

/** One cell whose creates pass as Fly's do, in virtual time. */
function setUp({ startTimeoutMs = 120_000 } = {}) {
  const time = { now: 0 };
  const creates = { perSecond: 1, burst: 3 };
  const admission = new Admission({ creates, startTimeoutMs, monotonic: () => time.now });
  const row = (session: string, state: SandboxRow['state'], more: Partial<SandboxRow> = {}) =>
    ({ name: `s-${session}-1`, app: 'cell', machine_id: null, reason: null, state, ...more }) as SandboxRow;
  const line: { session: string; since: number }[] = [];
  const booting: { session: string; since: number; readyAt: number }[] = [];
  /** By session: what a start took, from admission to ready. */
  const took = new Map<string, number>();
  let tokens = creates.burst;

  /** The time to come back, or `admitted`. */
  const open = (session: string): number | 'admitted' => {
    try {
      const place = admission.admit('cell', session);
      admission.changed(row(session, 'planned'));
      place.release();
      line.push({ session, since: time.now });
      return 'admitted';
    } catch (error) {
      if (error instanceof CodedError && error.code === 'no_capacity') return error.retryAfterMs!;
      throw error;
    }
  };
  const advance = (ms: number) => {
    for (const end = time.now + ms; time.now < end; ) {
      time.now += 100;
      tokens = Math.min(creates.burst, tokens + creates.perSecond / 10);
      // Rounding: ten tenths are a whole.
      while (line.length > 0 && tokens >= 1 - 1e-9) {
        tokens -= 1;
        const { session, since } = line.shift()!;
        admission.changed(row(session, 'created', { machine_id: 'm' }));
        booting.push({ session, since, readyAt: time.now + START_MS });
      }
      while (booting.length > 0 && booting[0]!.readyAt <= time.now) {
        const { session, since } = booting.shift()!;
        admission.changed(row(session, 'ready', { machine_id: 'm' }));
        took.set(session, time.now - since);
      }
    }
  };
  return { time, admission, row, open, advance, took };
}

describe('Admission', () => {
  it('of 200 at once takes those that will be ready in time, and the others when they come back as told', () => {
    const { time, open, advance, took } = setUp();
    const back = new Map<string, number>();
    for (let n = 0; n < 200; n++) {
      const answer = open(`n-${n}`);
      if (answer !== 'admitted') back.set(`n-${n}`, answer);
    }
    const admitted = 200 - back.size;
    expect(admitted).toBeGreaterThan(60);
    expect(admitted).toBeLessThan(120);
    expect(Math.max(...back.values())).toBeLessThanOrEqual(200_000);
    let refusedAgain = 0;
    while (back.size > 0) {
      for (const [session, at] of back) {
        if (time.now < at) continue;
        const answer = open(session);
        if (answer === 'admitted') back.delete(session);
        else back.set(session, time.now + answer);
        if (answer !== 'admitted') refusedAgain += 1;
      }
      advance(100);
    }
    advance(150_000);
    expect(took.size).toBe(200);
    expect(Math.max(...took.values())).toBeLessThan(120_000);
    expect(refusedAgain).toBeLessThan(20);
  });

  it('tells whoever asks too early the same time again, and lets nobody pass by those who wait', () => {
    const { open, advance } = setUp();
    const push = (from: string) => {
      for (let n = 0; open(`${from}-${n}`) === 'admitted'; n++);
    };
    push('first');
    const told = open('patient') as number;
    advance(500);
    expect(open('patient')).toBe(told - 500);
    advance(told - 500);
    push('pushing');
    expect(open('patient')).toBe('admitted');
  });

  it('learns what a start takes', () => {
    const { open, advance, took } = setUp({ startTimeoutMs: 40_000 });
    const count = () => {
      let n = 0;
      while (open(`${took.size}-${n}`) === 'admitted') n += 1;
      return n;
    };
    const before = count();
    advance(120_000);
    // It was guessed at 10 s.
    expect(before).toBeGreaterThan(20);
    expect(count()).toBeGreaterThan(before);
    advance(120_000);
    expect(Math.max(...took.values())).toBeLessThan(40_000);
  });

  it('gives back the place of a start that did not come about', () => {
    const { admission, open, row } = setUp();
    let n = 0;
    while (open(`n-${n}`) === 'admitted') n += 1;
    admission.changed(row('n-4', 'destroying', { reason: 'requested' }));
    const place = admission.admit('cell', 'attached');
    expect(open('next')).not.toBe('admitted');
    place.release();
    place.release();
    expect(open('other')).toBe('admitted');
    expect(open('another')).not.toBe('admitted');
    expect(admission.queued('cell')).toBe(n);
  });

  it('counts what another controller has left unstarted', () => {
    const { admission, open, row } = setUp();
    admission.seen(
      'cell',
      Array.from({ length: 200 }, (_, n) => row(`left-${n}`, 'planned')),
    );
    expect(open('next')).not.toBe('admitted');
    expect(admission.of('next').retryAfterMs('other')).toBe(0);
  });

  it('forgets a start that it was told nothing of for longer than one may take', () => {
    const { admission, open, row, time } = setUp();
    for (let n = 0; n < 200; n++) admission.changed(row(`lost-${n}`, 'planned'));
    expect(open('next')).not.toBe('admitted');
    time.now += 120_001;
    expect(open('next')).toBe('admitted');
    expect(admission.queued('cell')).toBe(1);
  });

  it.each(['fly_capacity', 'fly_quota', 'fly_rate_limited'])(
    'leaves a cell alone after %s, for longer each time',
    (code) => {
      const { admission, open, row, time } = setUp();
      const refuse = (session: string) => {
        expect(open(session)).toBe('admitted');
        admission.changed(row(session, 'destroying', { reason: `failed ${code}: no` }));
      };
      refuse('a');
      expect(admission.of('b').retryAfterMs('cell')).toBe(2_000);
      expect(admission.of('b').retryAfterMs('other')).toBe(0);
      time.now += 2_000;
      refuse('b');
      expect(admission.of('c').retryAfterMs('cell')).toBe(4_000);
      time.now += 4_000;
      expect(open('c')).toBe('admitted');
      admission.changed(row('c', 'created', { machine_id: 'm' }));
      refuse('d');
      expect(admission.of('e').retryAfterMs('cell')).toBe(2_000);
    },
  );

  it('does not close for a start that was stopped or failed otherwise', () => {
    const { admission, open, row } = setUp();
    for (const reason of [
      'requested',
      'failed session_start_failed: bad image',
      'failed fly_unavailable: away',
    ]) {
      expect(open(reason)).toBe('admitted');
      admission.changed(row(reason, 'destroying', { reason }));
    }
    expect(admission.of('next').retryAfterMs('cell')).toBe(0);
  });

  it('never admits a start that would not be ready in time, whenever they come', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 1, max: 80 })), {
          maxLength: 12,
        }),
        (waves) => {
          const { open, advance, took } = setUp({ startTimeoutMs: 60_000 });
          let n = 0;
          for (const [pause, size] of waves) {
            for (let k = 0; k < size; k++) open(`n-${n++}`);
            advance(pause * 100);
          }
          advance(120_000);
          for (const ms of took.values()) expect(ms).toBeLessThan(60_000);
        },
      ),
      { numRuns: 30 },
    );
  });
});
