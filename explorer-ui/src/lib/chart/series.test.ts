import { describe, expect, it } from 'vitest';
import type { GraphColumns } from '../api/types';
import { stepBy } from './navigate';
import { ancestry, bestSoFar, busiestClasses, childrenOf, countsOf, maskOf, scalingOf } from './series';
import { idOf, seriesOf } from './testing';

/** Six records: a root, its line of keeps in class 0, a crash, and one keep in class 1. */
const COLUMNS: GraphColumns = {
  ids: ['a', 'b', 'c', 'd', 'e', 'f'].map(idOf),
  parents: [-1, 0, 1, 1, 2, 0],
  timestamps: [100, 200, 300, 400, 500, 600],
  metrics: [3, 2.5, 2.7, 0, 2.1, 1.0],
  statuses: [0, 0, 1, 2, 0, 0],
  classes: [0, 0, 0, 0, 0, 1],
  class_names: ['CPU', 'H100'],
  verified: [true, true, false, false, true, true],
  frontier: [false, false, false, false, true, true],
  refused: [false, false, false, false, false, false],
  disputed: [false, false, false, false, false, false],
};

const series = seriesOf(COLUMNS);
const everything = { statuses: [true, true, true], hardwareClass: -1 };

describe('bestSoFar', () => {
  it('takes kept records of one class that hold and improve the metric', () => {
    expect(bestSoFar(series, 0, 'minimize')).toEqual([0, 1, 4]);
    expect(bestSoFar(series, 0, 'maximize')).toEqual([0]);
    expect(bestSoFar(series, 1, 'minimize')).toEqual([5]);
  });
  it('ignores claims: records that do not hold', () => {
    const claimed = seriesOf({ ...COLUMNS, verified: [true, false, false, false, true, false] });
    expect(bestSoFar(claimed, 0, 'minimize')).toEqual([0, 4]);
    expect(bestSoFar(claimed, 1, 'minimize')).toEqual([]);
  });
  it('ignores values that no run can measure', () => {
    const impossible = seriesOf({ ...COLUMNS, metrics: [3, -1e308, 2.7, 0, 0, 1.0] });
    expect(bestSoFar(impossible, 0, 'minimize', 'val_bpb')).toEqual([0]);
  });
  it('ignores strays', () => {
    const strayed = seriesOf({ ...COLUMNS, stray: [false, true, false, false, false, false] });
    expect(bestSoFar(strayed, 0, 'minimize')).toEqual([0, 4]);
  });
});

describe('maskOf', () => {
  it('filters by status and class', () => {
    expect([...maskOf(series, everything)]).toEqual([1, 1, 1, 1, 1, 1]);
    expect([...maskOf(series, { statuses: [true, false, false], hardwareClass: 0 })]).toEqual([1, 1, 0, 0, 1, 0]);
  });
});

describe('scalingOf', () => {
  it('leaves out values that no run can measure, and keeps crashes', () => {
    const impossible = seriesOf({ ...COLUMNS, metrics: [3, -1e308, 2.7, 0, -1, 1e308] });
    expect([...scalingOf(impossible, maskOf(impossible, everything), 'val_bpb')]).toEqual([1, 0, 1, 1, 0, 0]);
    expect([...scalingOf(impossible, maskOf(impossible, everything), 'reward')]).toEqual([1, 0, 1, 1, 1, 0]);
  });
});

describe('countsOf', () => {
  it('counts statuses, frontier and claims of a class or of all', () => {
    expect(countsOf(series, -1)).toEqual({ statuses: [4, 1, 1], frontier: 2, claims: 0, refused: 0, disputed: 0 });
    expect(countsOf(series, 1)).toEqual({ statuses: [1, 0, 0], frontier: 1, claims: 0, refused: 0, disputed: 0 });
    const [verified, refused] = [[true, false, true, false, false, false], [false, true, true, false, false, false]];
    expect(countsOf(seriesOf({ ...COLUMNS, verified, refused }), 0)).toEqual({ statuses: [3, 1, 1], frontier: 1, claims: 1, refused: 1, disputed: 0 });
    const disputed = [false, false, false, false, true, false];
    expect(countsOf(seriesOf({ ...COLUMNS, verified, disputed }), 0)).toMatchObject({ claims: 1, disputed: 1 });
  });
});

describe('edges', () => {
  it('lead to the root', () => {
    expect(ancestry(series, 4)).toEqual([4, 2, 1, 0]);
    expect(childrenOf(series, 1)).toEqual([2, 3]);
  });
  it('end at a loop or at a parent outside the columns', () => {
    const looped = seriesOf({ ...COLUMNS, parents: [1, 0, 2, 99, -1, -1] });
    expect(ancestry(looped, 0)).toEqual([0, 1]);
    expect([...looped.parent.slice(2)]).toEqual([-1, -1, -1, -1]);
  });
});

describe('busiestClasses', () => {
  it('lists the classes with most records first', () => {
    expect(busiestClasses(series, 5)).toEqual([0, 1]);
    expect(busiestClasses(series, 1)).toEqual([0]);
  });
});

describe('the keyboard', () => {
  const mask = maskOf(series, { statuses: [true, true, false], hardwareClass: -1 });
  it('moves in time over what is shown', () => {
    expect(stepBy('ArrowRight', series, mask, 2, 'minimize')).toBe(4);
    expect(stepBy('ArrowLeft', series, mask, 4, 'minimize')).toBe(2);
    expect(stepBy('Home', series, mask, 4, 'minimize')).toBe(0);
    expect(stepBy('End', series, mask, 0, 'minimize')).toBe(5);
    expect(stepBy('ArrowRight', series, mask, 5, 'minimize')).toBeNull();
  });
  it('moves to the parent and to the best kept child', () => {
    expect(stepBy('ArrowDown', series, mask, 4, 'minimize')).toBe(2);
    expect(stepBy('ArrowUp', series, mask, 0, 'minimize')).toBe(5);
    expect(stepBy('ArrowUp', series, mask, 0, 'maximize')).toBe(1);
    expect(stepBy('ArrowDown', series, mask, 0, 'minimize')).toBeNull();
  });
});
