import { describe, expect, it } from 'vitest';
import { limited, lowerBound, panned, project, timeTicks, unproject, upperBound, valueTicks, zoomed } from './scale';

describe('project', () => {
  it('is undone by unproject, also on an axis that grows upwards', () => {
    const range = { min: 0.9, max: 3.4 };
    const pixel = project(1.7, range, 400, 10);
    expect(pixel).toBeLessThan(400);
    expect(unproject(pixel, range, 400, 10)).toBeCloseTo(1.7, 12);
  });
});

describe('valueTicks', () => {
  const labels = (min: number, max: number, most: number) => valueTicks({ min, max }, most).map(({ label }) => label);
  it('are round and within the range', () => {
    expect(labels(0.93, 1.31, 4)).toEqual(['1.0', '1.1', '1.2', '1.3']);
  });
  it('are none for an empty or infinite range', () => {
    expect(valueTicks({ min: 1, max: 1 }, 5)).toEqual([]);
    expect(valueTicks({ min: 0, max: Infinity }, 5)).toEqual([]);
  });
  it('have the decimals that neighbours need to differ', () => {
    expect(labels(1, 1.2, 4)).toEqual(['1.00', '1.05', '1.10', '1.15', '1.20']);
    expect(labels(100, 400, 3)).toEqual(['100', '200', '300', '400']);
  });
  it('have labels that fit beside the plot, also for extreme values', () => {
    for (const range of [{ min: 0, max: 1e300 }, { min: 1, max: 1 + 1e-9 }, { min: -1e-12, max: 1e-12 }, { min: -4e5, max: 9e5 }]) {
      for (const label of valueTicks(range, 5).map((tick) => tick.label)) expect(label.length, label).toBeLessThanOrEqual(8);
    }
  });
  it('are at most one more than requested', () => {
    for (let most = 2; most < 20; most++) {
      for (const max of [0.7, 1, 1.4, 2, 3.3, 5, 7.1, 9.9]) expect(valueTicks({ min: 0, max }, most).length).toBeLessThanOrEqual(most + 1);
    }
  });
});

describe('timeTicks', () => {
  const HOUR = 3_600;
  const DAY = 24 * HOUR;
  const START = 1_757_000_000;
  it('are at full hours and at midnight of the user’s time zone', () => {
    const hours = timeTicks({ min: START, max: START + 5 * HOUR }, 5).map(({ value }) => new Date(value * 1000));
    expect(hours.length).toBeGreaterThan(3);
    expect(hours.every((date) => date.getMinutes() === 0 && date.getSeconds() === 0)).toBe(true);
    const days = timeTicks({ min: START, max: START + 5 * DAY }, 5).map(({ value }) => new Date(value * 1000));
    expect(days.length).toBeGreaterThan(3);
    expect(days.every((date) => date.getHours() === 0 && date.getMinutes() === 0)).toBe(true);
  });
  it('have distinct labels, no finer than their distance', () => {
    const shapes: [number, RegExp][] = [
      [20, /^\d\d:\d\d:\d\d$/],
      [4 * HOUR, /^\d\d:\d\d$|^\d+ \w+$/],
      [9 * DAY, /^\d+ \w+$/],
      [300 * DAY, /^\w+ \d{4}$/],
      [4_000 * DAY, /^\d{4}$/],
    ];
    for (const [length, shape] of shapes) {
      const labels = timeTicks({ min: START, max: START + length }, 6).map(({ label }) => label);
      expect(labels.length).toBeGreaterThan(1);
      expect(new Set(labels).size).toBe(labels.length);
      for (const label of labels) expect(label).toMatch(shape);
    }
  });
  it('are at most one more than requested', () => {
    for (let length = 4; length < 1e11; length *= 1.3) {
      for (const most of [2, 3, 7, 11]) expect(timeTicks({ min: START, max: START + length }, most).length).toBeLessThanOrEqual(most + 1);
    }
  });
  it('are none outside the range of dates', () => {
    expect(timeTicks({ min: 0, max: 1.8e19 }, 5)).toEqual([]);
    expect(timeTicks({ min: 5, max: 5 }, 5)).toEqual([]);
  });
});

describe('the window', () => {
  it('zooms around the value under the pointer', () => {
    const range = zoomed({ min: 0, max: 10 }, 0.5, 2);
    expect(range).toEqual({ min: 1, max: 6 });
    expect(project(2, range, 0, 100)).toBe(20);
  });
  it('stays near the data', () => {
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
