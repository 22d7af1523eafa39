import { describe, expect, it } from 'vitest';
import { stepsOf } from './sparks';

const step = (timestamp: number, metric: number) => ({ id: 'a', timestamp, metric });

describe('stepsOf', () => {
  it('places steps in time and extends the last one until now', () => {
    expect(stepsOf([step(100, 3), step(150, 2)], 200)).toEqual([
      { at: 0, value: 3 },
      { at: 0.5, value: 2 },
      { at: 1, value: 2 },
    ]);
  });
  it('is not compressed by an old root', () => {
    const steps = stepsOf([step(0, 4), step(1_000_000, 3), step(1_000_050, 2)], 1_000_100);
    expect(steps.map(({ at }) => at)).toEqual([0, 0, 0.5, 1]);
  });
  it('is empty without improvements, and one line with one', () => {
    expect(stepsOf([], 100)).toEqual([]);
    expect(stepsOf([step(100, 3)], 100).map(({ value }) => value)).toEqual([3, 3]);
  });
});
