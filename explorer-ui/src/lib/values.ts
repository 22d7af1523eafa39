/** Which published values can be measured at all. Values are untrusted: those that cannot be never scale a chart. */

/** Largest size of a metric that a chart takes seriously: sums and products of such values stay finite. */
const LARGEST = 1e15;

/** Whether a metric is an amount of bits or a loss in bits, which is more than zero for every real text. */
const isBits = (metric: string): boolean => /bpb|bits?[ _]per[ _]byte/i.test(metric);

/** Largest number of bits that a byte can cost in a metric that is told apart from nonsense: a model that knows nothing needs 8. */
const MOST_BITS = 1_000;

/** Whether a run could have measured `value` for `metric`. */
export function isPossible(metric: string, value: number): boolean {
  if (!Number.isFinite(value) || Math.abs(value) > LARGEST) return false;
  return !isBits(metric) || (value > 0 && value <= MOST_BITS);
}

/** Whether a change is not larger than the tolerance within which two runs count as the same. */
export const isNoise = (change: number, tolerance: number | null | undefined): boolean =>
  tolerance !== null && tolerance !== undefined && Math.abs(change) <= tolerance;
