/** Graphs for the task index's sparklines, fetched one after the other and remembered. */
import { api } from './api/client';
import type { TaskSummary } from './api/types';
import { seriesOf, sparkOf } from './chart/series';

/** A larger graph is many megabytes: too much for a picture of a few hundred pixels. */
const MOST_EXPERIMENTS = 60_000;
/** A task that has grown by less than this share keeps its picture: nobody could see the difference. */
const GROWTH = 0.02;
const SPARK_POINTS = 80;
/** Tasks remembered; the oldest goes first. */
const MOST_REMEMBERED = 200;

type Spark = { experiments: number; values: number[] };

const remembered = new Map<string, Spark>();
let queue: Promise<unknown> = Promise.resolve();

/** Best so far of a task over its experiments; empty where it has none or too many to ask for. */
export function spark(task: TaskSummary, signal: AbortSignal): Promise<number[]> {
  const known = remembered.get(task.task_id);
  if (known && task.experiment_count - known.experiments <= known.experiments * GROWTH) return Promise.resolve(known.values);
  if (task.keep_count === 0 || task.experiment_count > MOST_EXPERIMENTS) return Promise.resolve([]);
  const next = queue.then(async () => {
    if (signal.aborted) return [];
    const values = sparkOf(seriesOf(await api.graph(task.task_id, signal)), task.goal, SPARK_POINTS);
    remembered.delete(task.task_id);
    remembered.set(task.task_id, { experiments: task.experiment_count, values });
    const [oldest] = remembered.keys();
    if (remembered.size > MOST_REMEMBERED && oldest !== undefined) remembered.delete(oldest);
    return values;
  });
  queue = next.catch(() => undefined);
  return next;
}
