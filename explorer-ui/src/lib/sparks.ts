/** The best-so-far line of each task of the index, fetched one after the other and cached. */
import { api } from './api/client';
import type { Improvement, TaskSummary } from './api/types';
import { isPossible } from './values';
import { robustTimeRange } from './chart/range';

/** Improvements requested: more would not be visible in a sparkline. */
const MAX_STEPS = 100;
/** Tasks in the cache. The oldest is dropped first. */
const MAX_CACHED = 200;

/** A step of the line. `at` is its time, from 0 (start of the sparkline) to 1 (its end). */
export type SparkStep = { at: number; value: number };

const cached = new Map<string, { best: number | null | undefined; improvements: Improvement[] }>();
let queue: Promise<unknown> = Promise.resolve();

/** The best-so-far line of the busiest hardware class that has a confirmed best; empty without one. */
export async function spark(task: TaskSummary, signal: AbortSignal): Promise<SparkStep[]> {
  if (task.keep_count === 0) return [];
  const [busiest] = task.classes.filter((one) => one.best_id).sort((a, b) => b.experiment_count - a.experiment_count);
  if (busiest === undefined) return [];
  const known = cached.get(task.task_id);
  // Without a new improvement only the end of the line moves.
  if (known && known.best === busiest.best) return stepsOf(known.improvements, task.last_activity, task.metric);
  const next = queue.then(async () => {
    if (signal.aborted) return [];
    const improvements = await api.lastImprovements(task.task_id, busiest.class, MAX_STEPS, signal);
    cached.delete(task.task_id);
    cached.set(task.task_id, { best: busiest.best, improvements });
    const [oldest] = cached.keys();
    if (cached.size > MAX_CACHED && oldest !== undefined) cached.delete(oldest);
    return stepsOf(improvements, task.last_activity, task.metric);
  });
  queue = next.catch(() => undefined);
  return next;
}

/** Improvements as steps in time up to `until`, without impossible values. An old first step does not compress the others. */
export function stepsOf(all: Improvement[], until: number, metric = ''): SparkStep[] {
  const improvements = all.filter((step) => isPossible(metric, step.metric));
  const times = improvements.map((step) => step.timestamp);
  const range = robustTimeRange([...times, Math.max(until, times.at(-1) ?? 0)]);
  if (range === null || improvements.length === 0) return [];
  const length = Math.max(1, range.max - range.min);
  const steps = improvements.map((step) => ({
    at: Math.min(1, Math.max(0, (step.timestamp - range.min) / length)),
    value: step.metric,
  }));
  // The best value holds until now.
  return [...steps, { at: 1, value: steps[steps.length - 1].value }];
}
