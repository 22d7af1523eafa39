/** How sure the difference of two single results is: the noise of their class where it was measured, else its tolerance. */
import type { ClassSummary } from './api/types';

export type Interval = {
  change: number;
  /** Differences up to this one are chance, or count as the same. */
  noise: number;
  low: number;
  high: number;
  /** Whether the noise was measured. */
  measured: boolean;
  about: string;
};

/** The noise of a class, from runs of the base script with other seeds: an answer of an older node has none. */
function believable(summary: ClassSummary): { difference: number; runs: number } | null {
  const noise = (summary as { noise?: { believable_one?: unknown; runs?: unknown } | null }).noise;
  const difference = noise?.believable_one;
  return typeof difference === 'number' && Number.isFinite(difference) && difference > 0 ? { difference, runs: Number(noise?.runs ?? 0) } : null;
}

export function intervalOf(change: number, summary: ClassSummary): Interval {
  const known = believable(summary);
  const noise = known?.difference ?? summary.tolerance;
  const about =
    known === null
      ? `The noise of this class was not measured. Two results that differ by up to ${summary.tolerance} count as the same.`
      : `The true difference lies here with a probability of 99 %, by ${known.runs} runs that measured the noise.`;
  return { change, noise, low: change - noise, high: change + noise, measured: known !== null, about };
}
