import { describe, expect, it } from 'vitest';
import type { NodeSummary } from './api/types';
import { intervalOf } from './interval';
import { ordered, totals } from './leaders';

const node = (id: string, confirmed: number[], rest: Partial<NodeSummary> = {}): NodeSummary => ({
  node_id: id,
  experiment_count: 0,
  verification_count: 0,
  trusted: false,
  reputation: 0,
  hardware_classes: [],
  last_activity: 0,
  standings: confirmed.map((count) => ({ class: 'CPU', weight: 0, confirmed: count, refuted: 1 })),
  ...rest,
});

describe('ordered', () => {
  it('has the largest value of the column first, and equal ones by id', () => {
    const nodes = [node('b', [1]), node('a', [1]), node('c', [2, 3], { experiment_count: 1 })];
    expect(ordered(nodes, 'confirmed').map((one) => one.node_id)).toEqual(['c', 'a', 'b']);
    expect(ordered(nodes, 'reputation').map((one) => one.node_id)).toEqual(['a', 'b', 'c']);
    expect(totals(nodes[2])).toEqual({ confirmed: 5, refuted: 2 });
  });
});

describe('intervalOf', () => {
  const summary = { class: 'CPU', tolerance: 0.5 } as Parameters<typeof intervalOf>[1];

  it('is the tolerance around the difference while the noise is not known', () => {
    expect(intervalOf(-0.25, summary)).toMatchObject({ noise: 0.5, low: -0.75, high: 0.25, measured: false });
  });

  it('is the measured noise where the API gives it', () => {
    const known = { ...summary, noise: { believable_one: 0.125, runs: 8 } } as typeof summary;
    expect(intervalOf(1, known)).toMatchObject({ noise: 0.125, low: 0.875, high: 1.125, measured: true });
    expect(intervalOf(1, { ...summary, noise: { believable_one: NaN } } as typeof summary)).toMatchObject({ measured: false });
  });
});
