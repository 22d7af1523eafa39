import { describe, expect, it } from 'vitest';
import { ago, compact, count, dateOf, dateTime, delta, duration, improves, metric, plural } from './format';

describe('numbers', () => {
  it('show metrics with four decimals, and extremes in scientific notation', () => {
    expect(metric(1.23456)).toBe('1.2346');
    expect(metric(-0.5)).toBe('−0.5000');
    expect(metric(0)).toBe('0.0000');
    expect(metric(1234.56)).toBe('1234.6');
    expect(metric(1.5e9)).toBe('1.500e+9');
    expect(metric(0.00002)).toBe('2.000e−5');
    expect(metric(null)).toBe('–');
    expect(metric(NaN)).toBe('–');
  });
  it('show differences with a sign', () => {
    expect(delta(0.1)).toBe('+0.1000');
    expect(delta(-0.1)).toBe('−0.1000');
    expect(delta(0)).toBe('±0');
  });
  it('improve in the direction of the goal', () => {
    expect(improves(-0.1, 'minimize')).toBe(true);
    expect(improves(-0.1, 'maximize')).toBe(false);
    expect(improves(0, 'minimize')).toBeNull();
  });
  it('show large counts shortened', () => {
    expect([950, 12_400, 3_100_000, 124_000_000].map(compact)).toEqual(['950', '12.4k', '3.10M', '124M']);
    expect(count(50_000)).toBe('50,000');
    expect([1e308, 2 ** 64].map(count)).toEqual(['1.000e+308', '1.845e+19']);
    expect(compact(1e308)).toBe('1.00e+308');
    expect(plural(1, 'peer')).toBe('1 peer');
    expect(plural(3, 'peer')).toBe('3 peers');
  });
});

describe('times', () => {
  it('are shown relative to now', () => {
    expect(ago(1_000, 1_002)).toBe('just now');
    expect(ago(1_000, 1_030)).toBe('30 s ago');
    expect(ago(0, 7_200)).toBe('2 h ago');
    expect(ago(90_000, 0)).toBe('in 25 h');
  });
  it('are shown as durations', () => {
    expect([20, 300, 4 * 3_600 + 300, 86_400 * 3].map(duration)).toEqual(['20 s', '5 min', '4 h 5 min', '3 d']);
  });
  it('outside the range of dates are shown as numbers', () => {
    expect(dateOf(1.8e19)).toBeNull();
    expect(dateTime(1.8e19)).toBe('Unix time 18000000000000000000');
    expect(ago(1.8e19, 0)).toMatch(/^in .* years$/);
  });
});
