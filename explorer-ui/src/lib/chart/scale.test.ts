import { describe, expect, it } from 'vitest';
import { limited, lowerBound, panned, project, tickDecimals, ticks, timeTicks, unproject, upperBound, zoomed } from './scale';

describe('project', () => {
  it('is undone by unproject, also on an axis that grows upwards', () => {
    const range = { min: 0.9, max: 3.4 };
    const pixel = project(1.7, range, 400, 10);
    expect(pixel).toBeLessThan(400);
    expect(unproject(pixel, range, 400, 10)).toBeCloseTo(1.7, 12);
  });
});

describe('ticks', () => {
  it('are round and within the range', () => {
    expect(ticks({ min: 0.93, max: 1.31 }, 4).map((v) => v.toFixed(1))).toEqual(['1.0', '1.1', '1.2', '1.3']);
  });
  it('are none for a range of no length or beyond numbers', () => {
    expect(ticks({ min: 1, max: 1 }, 5)).toEqual([]);
    expect(ticks({ min: 0, max: Infinity }, 5)).toEqual([]);
  });
  it('are written with the decimals that tell them apart', () => {
    expect(tickDecimals([1, 1.05])).toBe(2);
    expect(tickDecimals([100, 200])).toBe(0);
  });
});

describe('timeTicks', () => {
  it('fall on whole hours of the zone', () => {
    const { times, step } = timeTicks({ min: 1_000, max: 20_000 }, 5);
    expect(step).toBe(3_600 * 2);
    expect(times).toEqual([7_200, 14_400]);
  });
  it('fall on the zone’s midnight for steps of a day', () => {
    const { times } = timeTicks({ min: 0, max: 5 * 86_400 }, 5, 3_600);
    expect(times.every((time) => (time + 3_600) % 86_400 === 0)).toBe(true);
  });
  it('are bounded for absurd times', () => {
    expect(timeTicks({ min: 0, max: 1.8e19 }, 5).times.length).toBeLessThanOrEqual(50);
  });
});

describe('the window', () => {
  it('zooms around the value under the pointer', () => {
    const range = zoomed({ min: 0, max: 10 }, 0.5, 2);
    expect(range).toEqual({ min: 1, max: 6 });
    expect(project(2, range, 0, 100)).toBe(20);
  });
  it('cannot be lost', () => {
    const extent = { min: 0, max: 100 };
    expect(limited(panned(extent, 1e6), extent, 1).min).toBeLessThanOrEqual(100);
    expect(limited(zoomed(extent, 1e6, 50), extent, 1)).toEqual({ min: -25, max: 125 });
    const smallest = limited(zoomed(extent, 1e-9, 50), extent, 1);
    expect(smallest.max - smallest.min).toBe(1);
  });
});

describe('bounds', () => {
  it('find the first value that is greater', () => {
    expect(upperBound([1, 3, 3, 7], 3)).toBe(3);
    expect(upperBound([1, 3], 0)).toBe(0);
  });
  it('find the first value that is not less', () => {
    expect(lowerBound([1, 3, 3, 7], 3)).toBe(1);
    expect(lowerBound([1, 3], 9)).toBe(2);
    expect(lowerBound([], 1)).toBe(0);
  });
});
