/** Addresses within the page: real paths, so that the node can give each its title and answer 404 where there is nothing. */
import type { Order, Cursor } from './api/client';
import type { XAxis } from './chart/frame';
import type { Window } from './chart/scale';
import { MOST_COMPARED } from './compare';
import { STATUS_NAMES } from './chart/series';

/** What a task's page shows of its records, apart from the tables. All of it is in the address. */
export type View = {
  hardwareClass: string | null;
  /** Whether each status is shown, by its number. */
  statuses: readonly boolean[];
  axis: XAxis;
  /** Whether outliers are left at the edge. */
  robust: boolean;
  /** The window that the user moved the chart to; null for the default one. */
  window: Window | null;
};

export type TaskRoute = { page: 'task'; id: string; view: TaskView; list: FrontierList; show: View; order: Order; sort: NodeOrder; cursor: Cursor };

export type Route =
  | { page: 'tasks' }
  | TaskRoute
  | { page: 'experiment'; id: string }
  | { page: 'node'; id: string; cursor: Cursor }
  | { page: 'search'; words: string; task: string | null; cursor: Cursor }
  | { page: 'compare'; ids: string[]; compared: Compared }
  | { page: 'nodes'; task: string | null; sort: NodeOrder }
  | { page: 'network' }
  | { page: 'unknown'; path: string };

/** What a comparison shows: which two scripts, by their places, and whether also what is the same. */
export type Compared = { from: number; to: number; whole: boolean };

/** The orders of the leaders: by the column of this name. */
export const NODE_ORDERS = ['confirmed', 'refuted', 'experiments', 'verifications', 'reputation', 'seen'] as const;
export type NodeOrder = (typeof NODE_ORDERS)[number];

export const TASK_VIEWS = ['frontier', 'experiments', 'nodes'] as const;
export type TaskView = (typeof TASK_VIEWS)[number];

/** The lists of a task's best experiments, by their names in the API: what holds here comes first. */
export const FRONTIER_LISTS = ['frontier', 'global', 'claims', 'reference'] as const;
export type FrontierList = (typeof FRONTIER_LISTS)[number];

export const ALL_SHOWN: View = { hardwareClass: null, statuses: [true, true, true], axis: 'time', robust: true, window: null };

const ID = /^[0-9a-f]{4,64}$/;
/** Longest name of a task in an address. */
const MAX_NAME = 200;

/** The route of an address: a path, and its query with the `?`. */
export function parseAddress(path: string, search = ''): Route {
  const [page, raw, ...rest] = path.split('/').filter((part) => part !== '');
  const query = new URLSearchParams(search);
  if (page === undefined) return { page: 'tasks' };
  if (page === 'network' && raw === undefined) return { page: 'network' };
  if (page === 'compare' && raw === undefined) return compareRoute(query);
  if (page === 'nodes' && raw === undefined) return { page, task: taskOf(query), sort: orderOf(query, 'confirmed') };
  if (page === 'search' && raw === undefined) {
    return { page, words: query.get('q') ?? '', task: taskOf(query), cursor: cursorOf(query) };
  }
  const given = decoded(raw);
  const id = given.toLowerCase();
  if (rest.length > 0 || given === '') return { page: 'unknown', path };
  if (page === 't' && (ID.test(id) || given.length <= MAX_NAME)) return taskRoute(ID.test(id) ? id : given, query);
  if (!ID.test(id)) return { page: 'unknown', path };
  if (page === 'e') return { page: 'experiment', id };
  if (page === 'n') return { page: 'node', id, cursor: cursorOf(query) };
  return { page: 'unknown', path };
}

const orderOf = (query: URLSearchParams, otherwise: NodeOrder): NodeOrder => NODE_ORDERS.find((name) => name === query.get('sort')) ?? otherwise;

/** The task in a query; null without an id. */
function taskOf(query: URLSearchParams): string | null {
  const task = query.get('task')?.toLowerCase() ?? '';
  return ID.test(task) ? task : null;
}

function compareRoute(query: URLSearchParams): Route {
  const ids = [...new Set((query.get('e') ?? '').toLowerCase().split(','))].filter((id) => ID.test(id)).slice(0, MOST_COMPARED);
  const place = (name: string, otherwise: number) => {
    const at = Number(query.get(name) ?? otherwise + 1) - 1;
    return Number.isInteger(at) && at >= 0 && at < ids.length ? at : otherwise;
  };
  return { page: 'compare', ids, compared: { from: place('from', 0), to: place('to', 1), whole: query.get('show') === 'all' } };
}

function decoded(part: string | undefined): string {
  try {
    return decodeURIComponent(part ?? '');
  } catch {
    return '';
  }
}

function taskRoute(id: string, query: URLSearchParams): Route {
  const view = TASK_VIEWS.find((name) => name === query.get('view')) ?? 'frontier';
  const list = FRONTIER_LISTS.find((name) => name === query.get('list')) ?? 'frontier';
  const order = query.get('order') === 'metric' ? 'metric' : 'time';
  const sort = orderOf(query, 'seen');
  const hidden = query.get('hide')?.split(',') ?? [];
  const show: View = {
    hardwareClass: query.get('class'),
    statuses: STATUS_NAMES.map((name) => !hidden.includes(name)),
    axis: query.get('x') === 'order' ? 'order' : 'time',
    robust: query.get('range') !== 'all',
    window: windowOf(query.get('window')),
  };
  return { page: 'task', id, view, list, show, order, sort, cursor: cursorOf(query) };
}

/** A window in an address: its left, right, lower and upper edge. */
function windowOf(text: string | null): Window | null {
  const edges = text?.split(',').map(Number) ?? [];
  if (edges.length !== 4 || !edges.every(Number.isFinite)) return null;
  const [left, right, low, high] = edges;
  return left < right && low < high ? { x: { min: left, max: right }, y: { min: low, max: high } } : null;
}

/** Significant digits of a window's edge in an address: a second in a time of ten digits, and parts of it. */
const DIGITS = 12;
const edge = (value: number): string => String(Number(value.toPrecision(DIGITS)));

/** The address that an old one in the fragment stands for; null if the fragment is no address. */
export function fromHash(hash: string): string | null {
  const match = /^#\/(?:(task|experiment|node)\/([^/?]+))?(network|search)?(\?.*)?$/.exec(hash);
  if (match === null) return null;
  const [, page, id, other, query = ''] = match;
  if (page !== undefined) return `/${page.charAt(0)}/${id}${query}`;
  return `/${other ?? ''}${query}`;
}

function cursorOf(query: URLSearchParams): Cursor {
  const [after, before] = [query.get('after'), query.get('before')];
  if (after) return { after };
  return before ? { before } : {};
}

/** `path` with the given values as its query. Empty values are left out. */
function pathOf(path: string, given: Record<string, string | null | undefined>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(given)) if (value) query.set(name, value);
  const search = query.toString();
  return `/${path}${search === '' ? '' : `?${search}`}`;
}

/** The address of a task's page. Default values are left out. */
export function taskPath(
  id: string,
  { view = 'frontier', show = ALL_SHOWN, order = 'time', list = 'frontier', sort = 'seen', ...cursor }: Cursor & { view?: TaskView; show?: View; order?: Order; list?: FrontierList; sort?: NodeOrder } = {},
): string {
  const hidden = STATUS_NAMES.filter((_, status) => !show.statuses[status]);
  return pathOf(`t/${encodeURIComponent(id)}`, {
    view: view === 'frontier' ? null : view,
    list: list === 'frontier' ? null : list,
    class: show.hardwareClass,
    hide: hidden.join(','),
    x: show.axis === 'time' ? null : show.axis,
    range: show.robust ? null : 'all',
    window: show.window && [show.window.x.min, show.window.x.max, show.window.y.min, show.window.y.max].map(edge).join(','),
    order: order === 'time' ? null : order,
    sort: sort === 'seen' ? null : sort,
    ...cursor,
  });
}

export const experimentPath = (id: string) => `/e/${id}`;
export const nodePath = (id: string, cursor: Cursor = {}) => pathOf(`n/${id}`, cursor);
export const searchPath = (words: string, task: string | null = null, cursor: Cursor = {}) => pathOf('search', { q: words, task, ...cursor });

/** The address of a comparison. The first id is the baseline. */
export const comparePath = (ids: readonly string[], { from, to, whole }: Compared = { from: 0, to: 1, whole: false }) =>
  pathOf('compare', { e: ids.join(','), from: from === 0 ? null : String(from + 1), to: to === 1 ? null : String(to + 1), show: whole ? 'all' : null });
export const leadersPath = (task: string | null = null, sort: NodeOrder = 'confirmed') => pathOf('nodes', { task, sort: sort === 'confirmed' ? null : sort });
