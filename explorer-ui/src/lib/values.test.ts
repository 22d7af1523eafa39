import { expect, test } from 'vitest';
import { isNoise, isPossible } from './values';

test('bits per byte are more than zero and not astronomical', () => {
  for (const value of [0, -0, -1, -1e308, 1e308, 5e3, NaN, Infinity]) expect(isPossible('val_bpb', value), String(value)).toBe(false);
  for (const value of [1.03, 8, 5e-324]) expect(isPossible('val_bpb', value)).toBe(true);
});

test('other metrics may be zero or negative, within bounds', () => {
  for (const value of [0, -1, 150, 1e12]) expect(isPossible('reward', value)).toBe(true);
  for (const value of [1e308, -1e308, NaN]) expect(isPossible('GFLOP/s', value)).toBe(false);
});

test('a change within the tolerance is noise', () => {
  expect(isNoise(-0.0001, 0.002)).toBe(true);
  expect(isNoise(0.0021, 0.002)).toBe(false);
  expect(isNoise(0, null)).toBe(false);
});
