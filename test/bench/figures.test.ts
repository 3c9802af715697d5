import { describe, expect, test } from 'vitest';
import { median, met, quantile, table } from '../../bench/figures.ts';

describe('figures', () => {
  test('the median is a value that was measured', () => {
    expect(median([5, 1, 3])).toBe(3);
    expect(median([4, 1, 3, 2])).toBe(2);
    expect(quantile([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 0.99)).toBe(10);
  });

  test('nothing measured is an error, not a zero', () => {
    expect(() => median([])).toThrow(RangeError);
  });

  test.each([
    [2, { atMost: 2 }, true],
    [2.01, { atMost: 2 }, false],
    [300, { atLeast: 300 }, true],
    [299, { atLeast: 300 }, false],
  ])('%d against %j', (value, aim, expected) => {
    expect(met({ name: 'x', value, unit: '', aim })).toBe(expected);
  });

  test('the table says which aim was met', () => {
    const text = table([
      { name: 'quick', value: 1.5, unit: 'ms', aim: { atMost: 2 } },
      { name: 'slow thing', value: 250, unit: 'ms', aim: { atMost: 2 } },
    ]);
    expect(text).toBe('quick       1.50 ms  ≤ 2  met\nslow thing   250 ms  ≤ 2  missed');
  });
});
