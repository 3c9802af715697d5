import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Effect } from '../../fly/classify.ts';
import { FLY_ERROR_KINDS, type FlyErrorKind, type FlyErrorReason } from '../../fly/errors.ts';
import { backoffMs, mayRetry } from '../../fly/retry.ts';

const TABLE: [kind: FlyErrorKind, reason: FlyErrorReason | undefined, again: Record<Effect, boolean>][] = [
  ['mistake', undefined, { none: false, repeatable: false, once: false }],
  ['not_found', undefined, { none: false, repeatable: false, once: false }],
  ['auth', undefined, { none: false, repeatable: false, once: false }],
  ['quota', undefined, { none: false, repeatable: false, once: false }],
  ['capacity', undefined, { none: false, repeatable: false, once: false }],
  ['conflict', undefined, { none: false, repeatable: false, once: false }],
  ['conflict', 'unique_name', { none: false, repeatable: false, once: false }],
  ['conflict', 'lease_held', { none: false, repeatable: false, once: false }],
  ['conflict', 'version_mismatch', { none: false, repeatable: false, once: false }],
  ['conflict', 'concurrent_update', { none: false, repeatable: true, once: false }],
  ['precondition', undefined, { none: false, repeatable: false, once: false }],
  ['precondition', 'busy', { none: false, repeatable: true, once: false }],
  ['rate', undefined, { none: true, repeatable: true, once: true }],
  ['platform', undefined, { none: true, repeatable: true, once: true }],
  ['platform', 'unreachable', { none: true, repeatable: true, once: true }],
  ['platform', 'wait_timeout', { none: false, repeatable: false, once: false }],
  ['platform', 'aborted', { none: false, repeatable: false, once: false }],
  ['unknown_outcome', undefined, { none: false, repeatable: true, once: false }],
  ['unknown_outcome', 'timeout', { none: false, repeatable: true, once: false }],
  ['unknown_outcome', 'aborted', { none: false, repeatable: false, once: false }],
];

describe('mayRetry', () => {
  it.each(TABLE)('%s %s', (kind, reason, again) => {
    for (const effect of ['none', 'repeatable', 'once'] as const) {
      expect(mayRetry(effect, { kind, reason }), effect).toBe(again[effect]);
    }
  });

  it('has a row for every kind', () => {
    expect(new Set(TABLE.map(([kind]) => kind))).toEqual(new Set(FLY_ERROR_KINDS));
  });

  it('never sends a call again that may have had an effect of its own', () => {
    expect(mayRetry('once', { kind: 'unknown_outcome', reason: 'disconnected' })).toBe(false);
  });
});

describe('backoffMs', () => {
  const attempts = fc.integer({ min: 1, max: 50 });
  const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

  it('stays within a window that grows to 8 s', () => {
    fc.assert(
      fc.property(attempts, random, (attempt, r) => {
        const ms = backoffMs(attempt, { kind: 'platform' }, () => r);
        return ms >= 0 && ms <= Math.min(8_000, 250 * 2 ** attempt);
      }),
    );
    expect(backoffMs(1, { kind: 'platform' }, () => 0.5)).toBe(250);
    expect(backoffMs(3, { kind: 'platform' }, () => 0.5)).toBe(1_000);
    expect(backoffMs(40, { kind: 'platform' }, () => 0.5)).toBe(4_000);
  });

  it('is a second at least after a refusal for the rate, and what the answer asks for at least', () => {
    fc.assert(
      fc.property(attempts, random, fc.integer({ min: 0, max: 60_000 }), (attempt, r, retryAfterMs) => {
        const ms = backoffMs(attempt, { kind: 'rate', retryAfterMs }, () => r);
        return ms >= 1_000 && ms >= retryAfterMs;
      }),
    );
    expect(backoffMs(1, { kind: 'rate' }, () => 0)).toBe(1_000);
    expect(backoffMs(1, { kind: 'platform', retryAfterMs: 3_000 }, () => 0)).toBe(3_000);
  });
});
