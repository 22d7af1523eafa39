import { describe, expect, it } from 'vitest';
import { fullRange, padded, quantile, robustRange, robustTimeRange } from './range';

describe('robustRange', () => {
  it('covers ordinary values whole', () => {
    expect(robustRange([3.4, 2.9, 2.5, 2.2, 2.1, 2.0])).toEqual({ min: 2.0, max: 3.4 });
  });
  it('leaves a few wild values out', () => {
    const values = Array.from({ length: 100 }, (_, i) => 1 + i / 100);
    expect(robustRange([...values, 1e9, -1e9])).toEqual({ min: 1, max: 1.99 });
  });
  it('ignores what is no number', () => {
    expect(robustRange([1, NaN, 2, Infinity, 3])).toEqual({ min: 1, max: 3 });
  });
  it('has none without values', () => {
    expect(robustRange([])).toBeNull();
    expect(robustRange([NaN])).toBeNull();
  });
  it('stays useful where most values are equal', () => {
    const range = robustRange([...Array<number>(96).fill(2), 1.9, 2.1, 1.8, 2.2]);
    expect(range).toEqual({ min: 1.8, max: 2.2 });
  });
  it('takes one value as its own range', () => {
    expect(robustRange([2, 2, 2])).toEqual({ min: 2, max: 2 });
  });
});

describe('robustTimeRange', () => {
  it('leaves out a root written long before the work began', () => {
    expect(robustTimeRange([1_000, 9_000_000, 9_000_060, 9_000_120])).toEqual({ min: 9_000_000, max: 9_000_120 });
    expect(robustTimeRange([1_000, 9_000_000, 9_000_060])).toEqual({ min: 9_000_000, max: 9_000_060 });
  });
  it('leaves out a clock set far ahead, also beside an early root', () => {
    expect(robustTimeRange([1_000, 9_000_000, 9_000_060, 9_000_120, 4e9])).toEqual({ min: 9_000_000, max: 9_000_120 });
  });
  it('keeps evenly spread times whole', () => {
    const times = Array.from({ length: 50 }, (_, i) => i * 100);
    expect(robustTimeRange(times)).toEqual({ min: 0, max: 4_900 });
  });
  it('keeps two records whole', () => {
    expect(robustTimeRange([5, 9_000])).toEqual({ min: 5, max: 9_000 });
    expect(robustTimeRange([5])).toEqual({ min: 5, max: 5 });
    expect(robustTimeRange([])).toBeNull();
  });
});

describe('small parts', () => {
  it('interpolates quantiles', () => {
    expect(quantile([1, 2, 3, 4], 0.5)).toBe(2.5);
    expect(quantile([7], 0.9)).toBe(7);
  });
  it('finds the full range', () => {
    expect(fullRange([3, -1, NaN])).toEqual({ min: -1, max: 3 });
    expect(fullRange([])).toBeNull();
  });
  it('gives a range of no length one', () => {
    const range = padded({ min: 2, max: 2 }, 0.1);
    expect(range.max).toBeGreaterThan(range.min);
  });
});
