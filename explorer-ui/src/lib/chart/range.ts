/** Ranges of the axes. A few extreme values cannot compress the rest: metrics and timestamps are untrusted. */

export type Range = { min: number; max: number };

/** Values further than this many interquartile ranges from the quartiles are outliers. */
const FENCE = 3;
/** Largest share of the records that may be outliers in time, at each end. */
const TIME_OUTLIERS = 0.02;
/** A gap this many times as long as all that follows (or precedes) it separates outliers in time. */
const TIME_GAP = 4;

/** The quantile `q` (0..1) of sorted values, interpolated. */
export function quantile(sorted: ArrayLike<number>, q: number): number {
  if (sorted.length === 0) return NaN;
  const at = (sorted.length - 1) * q;
  const low = Math.floor(at);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}

/** The range of the finite values; null if there is none. */
export function fullRange(values: Iterable<number>): Range | null {
  let min = Infinity;
  let max = -Infinity;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    if (value < min) min = value;
    if (value > max) max = value;
  }
  return min <= max ? { min, max } : null;
}

/** The range of the values within Tukey's outer fences; null if no value is finite. */
export function robustRange(values: ArrayLike<number>): Range | null {
  const sorted = finite(values).sort();
  if (sorted.length === 0) return null;
  const q1 = quantile(sorted, 0.25);
  const q3 = quantile(sorted, 0.75);
  // With mostly equal values the quartiles are equal: use wider quantiles until they differ.
  let spread = q3 - q1;
  for (let tail = 0.1; spread === 0 && tail > 0.001; tail /= 3) spread = quantile(sorted, 1 - tail) - quantile(sorted, tail);
  if (spread === 0) return { min: sorted[0], max: sorted[sorted.length - 1] };
  const low = q1 - FENCE * spread;
  const high = q3 + FENCE * spread;
  return fullRange(sorted.filter((value) => value >= low && value <= high));
}

function finite(values: ArrayLike<number>): Float64Array {
  const found = new Float64Array(values.length);
  let count = 0;
  for (let i = 0; i < values.length; i++) if (Number.isFinite(values[i])) found[count++] = values[i];
  return found.subarray(0, count);
}

/**
 * The range of sorted times without a few that are far from all others, such as a base script that is older than the
 * first run, or a wrong clock. Null without times.
 */
export function robustTimeRange(sorted: ArrayLike<number>): Range | null {
  const n = sorted.length;
  if (n === 0) return null;
  const limit = Math.max(1, Math.floor(n * TIME_OUTLIERS));
  // Each end is compared with the span without the possible outliers of the other end, so that two wrong clocks
  // cannot hide each other.
  const late = sorted[Math.max(limit, n - 1 - limit)];
  const early = sorted[Math.min(limit, n - 2 < 0 ? 0 : n - 2)];
  let first = 0;
  let last = n - 1;
  for (let i = 1; i <= limit && i < n - 1; i++) {
    const rest = Math.max(late, sorted[i + 1]) - sorted[i];
    if (rest > 0 && sorted[i] - sorted[i - 1] > TIME_GAP * rest) first = i;
  }
  for (let i = n - 2; i >= n - 1 - limit && i > first; i--) {
    const rest = sorted[i] - Math.max(Math.min(early, sorted[i - 1]), sorted[first]);
    if (rest > 0 && sorted[i + 1] - sorted[i] > TIME_GAP * rest) last = i;
  }
  return { min: sorted[first], max: sorted[last] };
}

/** `range` with `share` of its length added at both ends. An empty range becomes a small one. */
export function padded(range: Range, share: number): Range {
  const length = range.max - range.min;
  const pad = length > 0 ? length * share : Math.max(Math.abs(range.max) * 0.01, 1e-6);
  return { min: range.min - pad, max: range.max + pad };
}
