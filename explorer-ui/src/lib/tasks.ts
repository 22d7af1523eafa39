/** Names and metrics of tasks by their ids, for tables that mix tasks. */
import { api } from './api/client';

/** Tasks whose names are fetched, the most active ones. Others are shown by their ids. */
const MAX_NAMES = 500;

export type TaskNames = ReadonlyMap<string, { name: string; metric: string }>;

export async function taskNames(signal: AbortSignal): Promise<TaskNames> {
  const page = await api.tasks({}, MAX_NAMES, signal);
  return new Map(page.items.map((task) => [task.task_id, { name: task.name, metric: task.metric }]));
}
