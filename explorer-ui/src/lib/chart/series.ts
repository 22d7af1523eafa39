/** The columns of a graph as typed arrays, and values that the chart derives from them. */
import { isPossible } from '../values';
import type { Ids } from './ids';

export const KEEP = 0;
export const DISCARD = 1;
export const CRASH = 2;
export const STATUS_NAMES = ['keep', 'discard', 'crash'] as const;

/** Columns with one item a record, in (timestamp, id) order. */
export type Rows = {
  length: number;
  ids: Ids;
  /** Unix seconds, as the publishers claim. */
  time: Float64Array;
  metric: Float64Array;
  status: Uint8Array;
  hardwareClass: Uint32Array;
  classNames: string[];
  verified: Uint8Array;
  frontier: Uint8Array;
  /** The record descends from a root that is not the task's. */
  stray: Uint8Array;
  /** The record is rejected at this node, or not comparable. */
  refused: Uint8Array;
  /** Measurements that count at this node disagree about the record. */
  disputed: Uint8Array;
};

/** A whole graph. */
export type Series = Rows & {
  /** Index of the parent, -1 where there is none. */
  parent: Int32Array;
};

export type Filter = {
  /** Whether each status is shown, by its number. */
  statuses: readonly boolean[];
  /** Index into `classNames`; -1 shows all. */
  hardwareClass: number;
};

/** 1 for each record that passes the filter. */
export function maskOf(series: Series, filter: Filter): Uint8Array {
  const mask = new Uint8Array(series.length);
  for (let i = 0; i < series.length; i++) {
    const inClass = filter.hardwareClass < 0 || series.hardwareClass[i] === filter.hardwareClass;
    if (inClass && filter.statuses[series.status[i]] === true) mask[i] = 1;
  }
  return mask;
}

/** The records of a mask that may scale the axes: crashes, and values that a run can measure. */
export function scalingOf(series: Series, mask: Uint8Array, metric: string): Uint8Array {
  return mask.map((shown, i) => (shown === 1 && (series.status[i] === CRASH || isPossible(metric, series.metric[i])) ? 1 : 0));
}

export type Counts = { statuses: number[]; frontier: number; claims: number; refused: number; disputed: number };

/** Numbers of records of a class (-1: of all) by status, on the frontier, and kept but neither confirmed nor refused, refused, or disputed. */
export function countsOf(series: Series, hardwareClass: number): Counts {
  const statuses = [0, 0, 0];
  let [frontier, claims, refused, disputed] = [0, 0, 0, 0];
  for (let i = 0; i < series.length; i++) {
    if (hardwareClass >= 0 && series.hardwareClass[i] !== hardwareClass) continue;
    statuses[series.status[i]]++;
    frontier += series.frontier[i];
    if (isDisputed(series, i)) disputed++;
    else if (isClaim(series, i)) claims++;
    if (isRefused(series, i)) refused++;
  }
  return { statuses, frontier, claims, refused, disputed };
}

/** Whether `a` is better than `b`. For drawing only: the API decides which record is best. */
export function nearerGoal(a: number, b: number, goal: string): boolean {
  return goal === 'maximize' ? a > b : a < b;
}

/** Whether a record is kept, and neither confirmed nor refused at this node. */
export const isClaim = (series: Series, index: number): boolean =>
  series.status[index] === KEEP && series.verified[index] === 0 && series.refused[index] === 0;
/** Whether a record is kept by its publisher and refused at this node: rejected, or not comparable. */
export const isRefused = (series: Series, index: number): boolean => series.status[index] === KEEP && series.refused[index] === 1;

/** Whether a record is kept, and measurements that count here disagree about it. */
export const isDisputed = (series: Series, index: number): boolean => series.status[index] === KEEP && series.disputed[index] === 1;

/** The kept records of one class that hold and improved its best value, in order of time. Claims and impossible values do not count. */
export function bestSoFar(series: Series, hardwareClass: number, goal: string, metric = ''): number[] {
  const steps: number[] = [];
  let best = goal === 'maximize' ? -Infinity : Infinity;
  for (let i = 0; i < series.length; i++) {
    if (series.status[i] !== KEEP || series.verified[i] === 0 || series.refused[i] === 1 || series.stray[i] === 1 || series.hardwareClass[i] !== hardwareClass) continue;
    if (!isPossible(metric, series.metric[i]) || !nearerGoal(series.metric[i], best, goal)) continue;
    best = series.metric[i];
    steps.push(i);
  }
  return steps;
}

/** The `limit` classes with the most records, as indices into `classNames`, largest first. */
export function busiestClasses(series: Series, limit: number): number[] {
  const counts = new Map<number, number>();
  for (const index of series.hardwareClass) counts.set(index, (counts.get(index) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, limit).map(([index]) => index);
}

/** The path from `index` to the root, `index` first. It ends at a loop, which a hostile answer could contain. */
export function ancestry(series: Series, index: number): number[] {
  const path: number[] = [];
  const seen = new Set<number>();
  for (let at = index; at >= 0 && !seen.has(at); at = series.parent[at]) {
    seen.add(at);
    path.push(at);
  }
  return path;
}

/** Indices of the records whose parent is `index`. */
export function childrenOf(series: Series, index: number): number[] {
  const children: number[] = [];
  for (let i = 0; i < series.length; i++) if (series.parent[i] === index) children.push(i);
  return children;
}
