import { describe, expect, it } from 'vitest';
import type { GraphColumns } from '../api/types';
import { bodyRect, hitTest, homeOf, laneRect, outlierCount, projector, positions, visibleSpan, visibleY, type Frame, type Projection } from './frame';
import { maskOf } from './series';
import { idOf, seriesOf } from './testing';

function frameOf(changes: Partial<GraphColumns> = {}, options: Partial<Frame> = {}): Frame {
  const series = seriesOf({
    ids: ['a', 'b', 'c', 'd'].map(idOf),
    parents: [-1, 0, 1, 1],
    timestamps: [100, 200, 300, 400],
    metrics: [3, 2, 0, 2.5],
    statuses: [0, 0, 2, 1],
    classes: [0, 0, 0, 0],
    class_names: ['CPU'],
    verified: [false, false, false, false],
    frontier: [false, true, false, false],
    ...changes,
  });
  const mask = maskOf(series, { statuses: [true, true, true], hardwareClass: -1 });
  const axis = options.axis ?? 'time';
  const home = homeOf(series, mask, axis, true);
  return {
    series, mask, goal: 'minimize', axis, xs: positions(series, axis), window: home, home,
    plot: { left: 0, top: 0, right: 500, bottom: 300 },
    ...options,
  };
}

const projectionOf = (frame: Frame, index: number): Projection | null => {
  const out: Projection = { x: 0, y: 0, beyondX: 0, beyondY: 0 };
  return projector(frame)(index, out) ? out : null;
};

describe('projections', () => {
  it('put the crash strip at the worse edge', () => {
    expect(laneRect(frameOf())?.top).toBe(0);
    const maximize = frameOf({}, { goal: 'maximize' });
    expect(laneRect(maximize)?.bottom).toBe(300);
    expect(bodyRect(maximize).top).toBe(0);
    const crash = projectionOf(frameOf(), 2);
    expect(crash?.y).toBeLessThan(bodyRect(frameOf()).top);
  });
  it('have no strip without crashes', () => {
    expect(laneRect(frameOf({ statuses: [0, 0, 1, 1] }))).toBeNull();
  });
  it('grow upwards with the metric and to the right with time', () => {
    const frame = frameOf();
    const [a, b] = [projectionOf(frame, 0), projectionOf(frame, 1)];
    expect(a && b && a.y < b.y && a.x < b.x).toBe(true);
  });
  it('are at the edge for outliers of the default window, and none for records zoomed away', () => {
    const n = 40;
    const many: Partial<GraphColumns> = {
      ids: Array.from({ length: n }, (_, i) => i.toString(16).padStart(64, '0')),
      parents: Array(n).fill(-1),
      timestamps: Array.from({ length: n }, (_, i) => i * 10),
      metrics: Array.from({ length: n }, (_, i) => (i === 7 ? 1e6 : 2 + i / 100)),
      statuses: Array(n).fill(1),
      classes: Array(n).fill(0),
      verified: Array(n).fill(false),
      frontier: Array(n).fill(false),
    };
    const frame = frameOf(many);
    expect(projectionOf(frame, 7)).toMatchObject({ beyondY: 1, y: 0 });
    expect(outlierCount(frame.series, frame.mask, frame.xs, frame.home)).toBe(1);
    const zoomed = { ...frame, window: { x: { min: 0, max: 50 }, y: frame.home.y } };
    expect(projectionOf(zoomed, 30)).toBeNull();
    expect(visibleSpan(zoomed)).toEqual([0, 6]);
    expect(visibleY(zoomed)?.max).toBeLessThan(2.1);
    const whole = homeOf(frame.series, frame.mask, 'time', false);
    expect(whole.y.max).toBeGreaterThan(1e6);
  });
  it('follow the order of records on that axis', () => {
    const frame = frameOf({ timestamps: [1, 1, 1, 1e12] }, { axis: 'order' });
    const [a, b, d] = [projectionOf(frame, 0), projectionOf(frame, 1), projectionOf(frame, 3)];
    expect(d!.x - b!.x).toBeCloseTo(2 * (b!.x - a!.x), 9);
  });
});

describe('hitTest', () => {
  it('finds the nearest shown record within reach', () => {
    const frame = frameOf();
    const b = projectionOf(frame, 1)!;
    expect(hitTest(frame, b.x + 3, b.y - 3, 10)).toBe(1);
    expect(hitTest(frame, b.x + 60, b.y, 10)).toBe(-1);
    frame.mask[1] = 0;
    expect(hitTest(frame, b.x, b.y, 10)).toBe(-1);
  });
  it('prefers the frontier where marks overlap', () => {
    const frame = frameOf({ timestamps: [100, 200, 200, 200], metrics: [3, 2, 2, 2], statuses: [0, 0, 1, 1] });
    const b = projectionOf(frame, 1)!;
    expect(hitTest(frame, b.x + 2, b.y, 10)).toBe(1);
  });
});

describe('an empty graph', () => {
  it('has a window', () => {
    const empty = { ids: [], parents: [], timestamps: [], metrics: [], statuses: [], classes: [], verified: [], frontier: [] };
    const frame = frameOf(empty);
    expect(frame.home.x.max).toBeGreaterThan(frame.home.x.min);
    expect(hitTest(frame, 10, 10, 10)).toBe(-1);
  });
});
