import { describe, expect, it } from 'vitest';
import { fullRange, padded, quantile, robustRange, robustTimeRange } from './range';

describe('robustRange', () => {
  it('covers all ordinary values', () => {
    expect(robustRange([3.4, 2.9, 2.5, 2.2, 2.1, 2.0])).toEqual({ min: 2.0, max: 3.4 });
  });
  it('excludes a few extreme values', () => {
    const values = Array.from({ length: 100 }, (_, i) => 1 + i / 100);
    expect(robustRange([...values, 1e9, -1e9])).toEqual({ min: 1, max: 1.99 });
  });
  it('ignores values that are not finite', () => {
    expect(robustRange([1, NaN, 2, Infinity, 3])).toEqual({ min: 1, max: 3 });
  });
  it('is null without values', () => {
    expect(robustRange([])).toBeNull();
    expect(robustRange([NaN])).toBeNull();
  });
  it('is not empty when most values are equal', () => {
    const range = robustRange([...Array<number>(96).fill(2), 1.9, 2.1, 1.8, 2.2]);
    expect(range).toEqual({ min: 1.8, max: 2.2 });
  });
  it('is a single value for one value', () => {
    expect(robustRange([2, 2, 2])).toEqual({ min: 2, max: 2 });
  });
});

describe('robustTimeRange', () => {
  it('excludes a root much older than the first run', () => {
    expect(robustTimeRange([1_000, 9_000_000, 9_000_060, 9_000_120])).toEqual({ min: 9_000_000, max: 9_000_120 });
    expect(robustTimeRange([1_000, 9_000_000, 9_000_060])).toEqual({ min: 9_000_000, max: 9_000_060 });
  });
  it('excludes a clock that is far ahead, also beside an old root', () => {
    expect(robustTimeRange([1_000, 9_000_000, 9_000_060, 9_000_120, 4e9])).toEqual({ min: 9_000_000, max: 9_000_120 });
  });
  it('covers all evenly spread times', () => {
    const times = Array.from({ length: 50 }, (_, i) => i * 100);
    expect(robustTimeRange(times)).toEqual({ min: 0, max: 4_900 });
  });
  it('covers two records', () => {
    expect(robustTimeRange([5, 9_000])).toEqual({ min: 5, max: 9_000 });
    expect(robustTimeRange([5])).toEqual({ min: 5, max: 5 });
    expect(robustTimeRange([])).toBeNull();
  });
});

describe('helpers of ranges', () => {
  it('interpolates quantiles', () => {
    expect(quantile([1, 2, 3, 4], 0.5)).toBe(2.5);
    expect(quantile([7], 0.9)).toBe(7);
  });
  it('finds the full range', () => {
    expect(fullRange([3, -1, NaN])).toEqual({ min: -1, max: 3 });
    expect(fullRange([])).toBeNull();
  });
  it('widens an empty range', () => {
    const range = padded({ min: 2, max: 2 }, 0.1);
    expect(range.max).toBeGreaterThan(range.min);
  });
});
