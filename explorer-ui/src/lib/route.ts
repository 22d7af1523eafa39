/** Addresses within the page. All of them live behind the `#`, so the node serves one file. */

export type Route =
  | { page: 'tasks' }
  | { page: 'task'; id: string; view: TaskView; hardwareClass: string | null }
  | { page: 'experiment'; id: string }
  | { page: 'node'; id: string }
  | { page: 'network' }
  | { page: 'unknown'; path: string };

export const TASK_VIEWS = ['frontier', 'experiments', 'nodes'] as const;
export type TaskView = (typeof TASK_VIEWS)[number];

const ID = /^[0-9a-f]{4,64}$/;

/** The route that a `location.hash` names. */
export function parseHash(hash: string): Route {
  const [path = '', search = ''] = hash.replace(/^#/, '').split('?', 2);
  const [page, id, ...rest] = path.split('/').filter((part) => part !== '');
  if (page === undefined) return { page: 'tasks' };
  if (page === 'network' && id === undefined) return { page: 'network' };
  if (id === undefined || rest.length > 0 || !ID.test(id)) return { page: 'unknown', path };
  if (page === 'experiment' || page === 'node') return { page, id };
  if (page !== 'task') return { page: 'unknown', path };
  const query = new URLSearchParams(search);
  const view = TASK_VIEWS.find((name) => name === query.get('view')) ?? 'frontier';
  return { page: 'task', id, view, hardwareClass: query.get('class') };
}

/** The hash of a task's page; defaults stay out of the address. */
export function taskHash(id: string, view: TaskView = 'frontier', hardwareClass: string | null = null): string {
  const query = new URLSearchParams();
  if (view !== 'frontier') query.set('view', view);
  if (hardwareClass !== null) query.set('class', hardwareClass);
  const search = query.toString();
  return `#/task/${id}${search === '' ? '' : `?${search}`}`;
}

export const experimentHash = (id: string) => `#/experiment/${id}`;
export const nodeHash = (id: string) => `#/node/${id}`;
