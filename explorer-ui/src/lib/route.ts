/** Addresses within the page. All of them live behind the `#`, so the node serves one file. */
import type { Order, Place } from './api/client';

export type Route =
  | { page: 'tasks' }
  | { page: 'task'; id: string; view: TaskView; hardwareClass: string | null; order: Order; place: Place }
  | { page: 'experiment'; id: string }
  | { page: 'node'; id: string; place: Place }
  | { page: 'search'; words: string; task: string | null; place: Place }
  | { page: 'network' }
  | { page: 'unknown'; path: string };

export const TASK_VIEWS = ['frontier', 'experiments', 'nodes'] as const;
export type TaskView = (typeof TASK_VIEWS)[number];

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
    return { page, words: query.get('q') ?? '', task: task !== null && ID.test(task) ? task : null, place: placeOf(query) };
  }
  if (id === undefined || rest.length > 0 || !ID.test(id)) return { page: 'unknown', path };
  if (page === 'experiment') return { page, id };
  if (page === 'node') return { page, id, place: placeOf(query) };
  if (page !== 'task') return { page: 'unknown', path };
  const view = TASK_VIEWS.find((name) => name === query.get('view')) ?? 'frontier';
  const order = query.get('order') === 'metric' ? 'metric' : 'time';
  return { page: 'task', id, view, hardwareClass: query.get('class'), order, place: placeOf(query) };
}

function placeOf(query: URLSearchParams): Place {
  const [after, before] = [query.get('after'), query.get('before')];
  if (after) return { after };
  return before ? { before } : {};
}

/** `path` with what is given as its query. */
function hashOf(path: string, given: Record<string, string | null | undefined>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(given)) if (value) query.set(name, value);
  const search = query.toString();
  return `#/${path}${search === '' ? '' : `?${search}`}`;
}

/** The hash of a task's page; defaults stay out of the address. */
export function taskHash(
  id: string,
  view: TaskView = 'frontier',
  hardwareClass: string | null = null,
  { order = 'time', ...place }: Place & { order?: Order } = {},
): string {
  return hashOf(`task/${id}`, {
    view: view === 'frontier' ? null : view,
    class: hardwareClass,
    order: order === 'time' ? null : order,
    ...place,
  });
}

export const experimentHash = (id: string) => `#/experiment/${id}`;
export const nodeHash = (id: string, place: Place = {}) => hashOf(`node/${id}`, place);
export const searchHash = (words: string, task: string | null = null, place: Place = {}) => hashOf('search', { q: words, task, ...place });
