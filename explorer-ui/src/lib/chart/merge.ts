/** Brings a graph up to date with the changes since it was read. */
import type { Changes } from './compact';
import { Ids } from './ids';
import { upperBound } from './scale';
import type { Series } from './series';

/**
 * The graph with the changes: changed records in their indices, new ones inserted in (timestamp, id) order.
 * The given series stays as it is, and is returned where nothing changed. A class that is new comes after the others.
 */
export function merged(series: Series, changes: Changes): Series {
  if (changes.length === 0) return series;
  const { width } = series.length === 0 ? changes.ids : series.ids;
  const indices = series.ids.indicesOf(changes.ids);
  const added: number[] = [];
  for (let k = 0; k < changes.length; k++) if (indices[k] < 0) added.push(k);
  const inserts = added.map((k) => insertionIndex(series, changes, k));
  const length = series.length + added.length;
  /** Where an old index is now. */
  const moved = (index: number) => index + upperBound(inserts, index);
  /** The new index of each change; the added ones are in order, so each moves by those before it. */
  const targets = Int32Array.from(indices, (index) => (index < 0 ? 0 : moved(index)));
  added.forEach((k, before) => (targets[k] = inserts[before] + before));

  const bytes = widened(series.ids.bytes, new Uint8Array(length * width), inserts, width);
  added.forEach((k) => bytes.set(changes.ids.bytes.subarray(k * width, (k + 1) * width), targets[k] * width));
  const ids = new Ids(bytes, width);

  const classNames = [...series.classNames];
  const classes = changes.classNames.map((name) => {
    const known = classNames.indexOf(name);
    return known < 0 ? classNames.push(name) - 1 : known;
  });

  const parent = widened(series.parent, new Int32Array(length), inserts);
  if (inserts.some((index) => index < series.length)) for (let i = 0; i < length; i++) if (parent[i] >= 0) parent[i] = moved(parent[i]);
  const parents = ids.indicesOf(changes.parents);

  const next: Series = {
    length,
    ids,
    classNames,
    parent,
    time: widened(series.time, new Float64Array(length), inserts),
    metric: widened(series.metric, new Float64Array(length), inserts),
    status: widened(series.status, new Uint8Array(length), inserts),
    hardwareClass: widened(series.hardwareClass, new Uint32Array(length), inserts),
    verified: widened(series.verified, new Uint8Array(length), inserts),
    refused: widened(series.refused, new Uint8Array(length), inserts),
    disputed: widened(series.disputed, new Uint8Array(length), inserts),
    frontier: widened(series.frontier, new Uint8Array(length), inserts),
    stray: widened(series.stray, new Uint8Array(length), inserts),
  };
  for (let k = 0; k < changes.length; k++) {
    const at = targets[k];
    next.parent[at] = parents[k] === at ? -1 : parents[k];
    for (const name of ['time', 'metric', 'status', 'verified', 'frontier', 'stray', 'refused', 'disputed'] as const) next[name][at] = changes[name][k];
    next.hardwareClass[at] = classes[changes.hardwareClass[k]] ?? 0;
  }
  return next;
}

/** The index before which a new record belongs, by (timestamp, id). */
function insertionIndex(series: Series, changes: Changes, k: number): number {
  let low = 0;
  let high = series.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const later = series.time[middle] - changes.time[k] || series.ids.compare(middle, changes.ids, k);
    if (later < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

type Column = Uint8Array | Uint32Array | Int32Array | Float64Array;

/** Copies a column of `width` items a record into `out`, with gaps for new records before the given old indices, ascending. */
function widened<T extends Column>(column: T, out: T, inserts: number[], width = 1): T {
  let from = 0;
  inserts.forEach((index, before) => {
    out.set(column.subarray(from, index * width), from + before * width);
    from = index * width;
  });
  out.set(column.subarray(from), from + inserts.length * width);
  return out;
}
