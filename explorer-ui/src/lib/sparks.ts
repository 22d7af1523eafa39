/** The best so far of each task of the index, fetched one after the other and remembered. */
import { api } from './api/client';
import type { Improvement, TaskSummary } from './api/types';
import { robustTimeRange } from './chart/range';

/** Steps asked for: more could not be told apart in a picture of this size. */
const MOST_STEPS = 100;
/** Tasks remembered; the oldest goes first. */
const MOST_REMEMBERED = 200;

/** A step at a place in time, from 0 (the picture's beginning) to 1 (its end). */
export type SparkStep = { at: number; value: number };

const remembered = new Map<string, { best: number | null | undefined; improvements: Improvement[] }>();
let queue: Promise<unknown> = Promise.resolve();

/** Best so far of a task's busiest hardware class; empty where it has none. */
export async function spark(task: TaskSummary, signal: AbortSignal): Promise<SparkStep[]> {
  if (task.keep_count === 0) return [];
  const [busiest] = [...task.classes].sort((a, b) => b.experiment_count - a.experiment_count);
  const known = remembered.get(task.task_id);
  // Between two improvements only time goes on.
  if (known && known.best === busiest?.best) return stepsOf(known.improvements, task.last_activity);
  const next = queue.then(async () => {
    if (signal.aborted) return [];
    const improvements = await api.lastImprovements(task.task_id, busiest?.class ?? null, MOST_STEPS, signal);
    remembered.delete(task.task_id);
    remembered.set(task.task_id, { best: busiest?.best, improvements });
    const [oldest] = remembered.keys();
    if (remembered.size > MOST_REMEMBERED && oldest !== undefined) remembered.delete(oldest);
    return stepsOf(improvements, task.last_activity);
  });
  queue = next.catch(() => undefined);
  return next;
}

/** Improvements as steps in time up to `until`; a first one of long ago does not squash the others. */
export function stepsOf(improvements: Improvement[], until: number): SparkStep[] {
  const times = improvements.map((step) => step.timestamp);
  const range = robustTimeRange([...times, Math.max(until, times.at(-1) ?? 0)]);
  if (range === null || improvements.length === 0) return [];
  const length = Math.max(1, range.max - range.min);
  const steps = improvements.map((step) => ({
    at: Math.min(1, Math.max(0, (step.timestamp - range.min) / length)),
    value: step.metric,
  }));
  // The best stands until now.
  return [...steps, { at: 1, value: steps[steps.length - 1].value }];
}
