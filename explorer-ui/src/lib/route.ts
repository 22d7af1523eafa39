/** Addresses within the page. They are all in the fragment after `#`, so the node serves one file. */
import type { Order, Cursor } from './api/client';

export type Route =
  | { page: 'tasks' }
  | { page: 'task'; id: string; view: TaskView; list: FrontierList; hardwareClass: string | null; order: Order; cursor: Cursor }
  | { page: 'experiment'; id: string }
  | { page: 'node'; id: string; cursor: Cursor }
  | { page: 'search'; words: string; task: string | null; cursor: Cursor }
  | { page: 'network' }
  | { page: 'unknown'; path: string };

export const TASK_VIEWS = ['frontier', 'experiments', 'nodes'] as const;
export type TaskView = (typeof TASK_VIEWS)[number];

/** The lists of a task's best experiments, by their names in the API: what holds here comes first. */
export const FRONTIER_LISTS = ['frontier', 'global', 'claims', 'reference'] as const;
export type FrontierList = (typeof FRONTIER_LISTS)[number];

const ID = /^[0-9a-f]{4,64}$/;

/** The route that a `location.hash` names. */
export function parseHash(hash: string): Route {
  const [path = '', search = ''] = hash.replace(/^#/, '').split('?', 2);
  const [page, id, ...rest] = path.split('/').filter((part) => part !== '');
  const query = new URLSearchParams(search);
  if (page === undefined) return { page: 'tasks' };
  if (page === 'network' && id === undefined) return { page: 'network' };
  if (page === 'search' && id === undefined) {
    const task = query.get('task');
    return { page, words: query.get('q') ?? '', task: task !== null && ID.test(task) ? task : null, cursor: cursorOf(query) };
  }
  if (id === undefined || rest.length > 0 || !ID.test(id)) return { page: 'unknown', path };
  if (page === 'experiment') return { page, id };
  if (page === 'node') return { page, id, cursor: cursorOf(query) };
  if (page !== 'task') return { page: 'unknown', path };
  const view = TASK_VIEWS.find((name) => name === query.get('view')) ?? 'frontier';
  const list = FRONTIER_LISTS.find((name) => name === query.get('list')) ?? 'frontier';
  const order = query.get('order') === 'metric' ? 'metric' : 'time';
  return { page: 'task', id, view, list, hardwareClass: query.get('class'), order, cursor: cursorOf(query) };
}

function cursorOf(query: URLSearchParams): Cursor {
  const [after, before] = [query.get('after'), query.get('before')];
  if (after) return { after };
  return before ? { before } : {};
}

/** `path` with the given values as its query. Empty values are left out. */
function hashOf(path: string, given: Record<string, string | null | undefined>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(given)) if (value) query.set(name, value);
  const search = query.toString();
  return `#/${path}${search === '' ? '' : `?${search}`}`;
}

/** The hash of a task's page. Default values are left out. */
export function taskHash(
  id: string,
  view: TaskView = 'frontier',
  hardwareClass: string | null = null,
  { order = 'time', list = 'frontier', ...cursor }: Cursor & { order?: Order; list?: FrontierList } = {},
): string {
  return hashOf(`task/${id}`, {
    view: view === 'frontier' ? null : view,
    list: list === 'frontier' ? null : list,
    class: hardwareClass,
    order: order === 'time' ? null : order,
    ...cursor,
  });
}

export const experimentHash = (id: string) => `#/experiment/${id}`;
export const nodeHash = (id: string, cursor: Cursor = {}) => hashOf(`node/${id}`, cursor);
export const searchHash = (words: string, task: string | null = null, cursor: Cursor = {}) => hashOf('search', { q: words, task, ...cursor });
