import { describe, expect, it } from 'vitest';
import { parseGraph, type Changes } from './compact';
import { bytesOf } from './golden';
import { Ids } from './ids';
import { merged } from './merge';
import type { Series } from './series';
import { idOf, seriesOf } from './testing';

/** The records of a series, comparable whatever the order of its classes. */
const rowsOf = (series: Series) =>
  Array.from({ length: series.length }, (_, i) => ({
    id: series.ids.at(i),
    parent: series.parent[i] < 0 ? null : series.ids.at(series.parent[i]),
    time: series.time[i],
    metric: series.metric[i],
    status: series.status[i],
    hardwareClass: series.classNames[series.hardwareClass[i]],
    flags: [series.verified[i], series.frontier[i], series.stray[i]],
  }));

const OLDER = seriesOf({
  ids: ['b', 'c', 'e'].map(idOf),
  parents: [-1, 0, 1],
  timestamps: [100, 200, 400],
  metrics: [3, 2, 1],
  statuses: [0, 0, 0],
  classes: [0, 0, 0],
  class_names: ['CPU'],
  verified: [false, false, false],
  frontier: [false, false, true],
});

/** Changes of which only ids, parents and times matter; all are of the class H100. */
function changesOf(rows: [id: string, parent: string, time: number][]): Changes {
  const parents = rows.map(([, parent]) => idOf(parent));
  const series = seriesOf({
    ids: rows.map(([id]) => idOf(id)),
    parents: rows.map(() => -1),
    timestamps: rows.map(([, , time]) => time),
    metrics: rows.map(() => 9),
    statuses: rows.map(() => 1),
    classes: rows.map(() => 0),
    class_names: ['H100'],
    verified: rows.map(() => true),
    frontier: rows.map(() => false),
  });
  return { ...series, parents: Ids.of(parents) };
}

describe('merged', () => {
  it('turns an older graph and its changes into the graph that the node has now', () => {
    const [older, changes, newer] = (['older', 'changes', 'newer'] as const).map((name) => parseGraph(bytesOf(name)));
    if (older.content !== 'whole' || changes.content !== 'changes' || newer.content !== 'whole') throw new Error('other contents');
    expect(rowsOf(merged(older.series, changes.changes))).toEqual(rowsOf(newer.series));
    expect(rowsOf(older.series)).toEqual(rowsOf((parseGraph(bytesOf('older')) as typeof older).series));
  });

  it('inserts records by time and id, and moves the indices of parents', () => {
    const next = merged(OLDER, changesOf([['a', 'b', 50], ['d', 'c', 200], ['f', 'd', 900]]));
    expect(rowsOf(next).map(({ id, parent, time }) => [id[0], parent?.[0] ?? null, time])).toEqual([
      ['a', 'b', 50],
      ['b', null, 100],
      ['c', 'b', 200],
      ['d', 'c', 200],
      ['e', 'c', 400],
      ['f', 'd', 900],
    ]);
    expect([...next.hardwareClass].map((index) => next.classNames[index])).toEqual(['H100', 'CPU', 'CPU', 'H100', 'CPU', 'H100']);
  });

  it('replaces records that are there', () => {
    const next = merged(OLDER, changesOf([['c', 'b', 200]]));
    expect(rowsOf(next)[1]).toEqual({ ...rowsOf(OLDER)[1], metric: 9, status: 1, hardwareClass: 'H100', flags: [1, 0, 0] });
    expect([rowsOf(next)[0], rowsOf(next)[2]]).toEqual([rowsOf(OLDER)[0], rowsOf(OLDER)[2]]);
  });

  it('does not change the given series, and returns it when nothing changed', () => {
    const before = rowsOf(OLDER);
    merged(OLDER, changesOf([['a', 'b', 50], ['c', 'b', 200]]));
    expect(rowsOf(OLDER)).toEqual(before);
    expect(merged(OLDER, changesOf([]))).toBe(OLDER);
  });

  it('starts from an empty graph, and ignores parents outside the columns', () => {
    const empty = merged(OLDER, changesOf([]));
    const first = merged({ ...seriesOf({ ids: [], parents: [], timestamps: [], metrics: [], statuses: [], classes: [], class_names: [], verified: [], frontier: [] }) }, changesOf([['a', '0', 1], ['b', '9', 2]]));
    expect(empty.length).toBe(3);
    expect(rowsOf(first).map(({ parent }) => parent)).toEqual([null, null]);
  });
});
