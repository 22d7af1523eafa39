/**
 * The one way to the node's HTTP API: a typed function for each route.
 *
 * Every failure becomes an `ApiError` that says what to do next; nothing here keeps state.
 */
import { parseGraph, UnreadableGraph } from '../chart/compact';
import type { Series } from '../chart/series';
import { rawMember } from '../json';
import type { Activity, ConnectedPeer, Experiment, ExperimentDetail, Improvement, NodeStatus, NodeSummary, TaskSummary } from './types';

export const API_ROOT = '/api/v1';

/** Why an answer did not come: `unreachable` when there was none, else the HTTP status. */
export class ApiError extends Error {
  constructor(
    readonly reason: 'unreachable' | number,
    message: string,
    readonly hint: string | null = null,
  ) {
    super(message);
  }
}

export type Query = Record<string, string | number | null | undefined>;

/** The address of a route, with ids and query values escaped. Undefined and null values are left out. */
export function address(segments: string[], query: Query = {}): string {
  const path = segments.map(encodeURIComponent).join('/');
  const pairs = Object.entries(query)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([key, value]) => `${key}=${encodeURIComponent(String(value))}`);
  return `${API_ROOT}/${path}${pairs.length > 0 ? `?${pairs.join('&')}` : ''}`;
}

/** Fetches what `read` makes of the answer; an answer that refuses becomes an error. */
async function fetched<T>(url: string, accept: string, read: (response: Response) => Promise<T>, signal?: AbortSignal): Promise<T> {
  let response: Response;
  let problem: string;
  try {
    response = await fetch(url, { signal, headers: { accept } });
    if (response.ok) return await read(response);
    problem = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError('unreachable', 'The API is unreachable.', 'Is the node running? Start it with: spore run');
  }
  throw problemOf(response.status, problem);
}

const getText = (url: string, signal?: AbortSignal): Promise<string> =>
  fetched(url, 'application/json', (response) => response.text(), signal);

/** A task's graph in its compact form. */
async function graph(id: string, signal?: AbortSignal): Promise<Series> {
  const bytes = await fetched(address(['tasks', id, 'graph.bin']), 'application/octet-stream', (response) => response.arrayBuffer(), signal);
  try {
    return parseGraph(bytes);
  } catch (error) {
    if (!(error instanceof UnreadableGraph)) throw error;
    throw new ApiError('unreachable', `The graph cannot be read: ${error.message}.`, 'Reload the page: the node may have been updated.');
  }
}

function problemOf(status: number, body: string): ApiError {
  try {
    const parsed: unknown = JSON.parse(body);
    if (parsed !== null && typeof parsed === 'object' && 'error' in parsed) {
      const hint = 'hint' in parsed && typeof parsed.hint === 'string' ? parsed.hint : null;
      return new ApiError(status, String(parsed.error), hint);
    }
  } catch {
    // Not our API's own answer (a proxy's page, say): the status is all there is to tell.
  }
  const hint = status >= 500 ? 'Is the node running? Start it with: spore run' : null;
  return new ApiError(status, `The API answered with status ${status}.`, hint);
}

async function get<T>(url: string, signal?: AbortSignal): Promise<T> {
  const text = await getText(url, signal);
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new ApiError('unreachable', 'The answer is not JSON.', 'Is another program listening on this port?');
  }
}

/** An experiment with the text of its signed object as it was sent: numbers keep their spelling, which the signature covers. */
export type ExperimentWithSignedText = ExperimentDetail & { signedText: string };

/** Part of a listing: in its order, or away from a cursor given as `before`, the nearest first. */
export type Page<T> = {
  items: T[];
  /** Cursor of the first item. */
  first?: string | null;
  /** What to go on with in the same direction. */
  next?: string | null;
};

/** Where a page begins; nothing: at the listing's beginning. */
export type Place = { after?: string; before?: string };

export type Order = 'time' | 'metric';

const list = <T>(segments: string[], query: Query, place: Place, limit: number, signal?: AbortSignal) =>
  get<Page<T>>(address(segments, { ...query, ...place, limit }), signal);

export const api = {
  status: (signal?: AbortSignal) => get<NodeStatus>(address(['status']), signal),
  tasks: (place: Place, limit: number, signal?: AbortSignal) => list<TaskSummary>(['tasks'], {}, place, limit, signal),
  task: (id: string, signal?: AbortSignal) => get<TaskSummary>(address(['tasks', id]), signal),
  graph,
  frontier: (id: string, hardwareClass: string | null, place: Place, limit: number, signal?: AbortSignal) =>
    list<Experiment>(['tasks', id, 'frontier'], { class: hardwareClass }, place, limit, signal),
  taskExperiments: (id: string, order: Order, place: Place, limit: number, signal?: AbortSignal) =>
    list<Experiment>(['tasks', id, 'experiments'], { order }, place, limit, signal),
  nodeExperiments: (node: string, place: Place, limit: number, signal?: AbortSignal) =>
    list<Experiment>(['experiments'], { node }, place, limit, signal),
  children: (id: string, place: Place, limit: number, signal?: AbortSignal) =>
    list<Experiment>(['experiments', id, 'children'], {}, place, limit, signal),
  /** The last so many records that beat all before them, in order of time. */
  async lastImprovements(id: string, hardwareClass: string | null, limit: number, signal?: AbortSignal): Promise<Improvement[]> {
    const page = await list<Improvement>(['tasks', id, 'improvements'], { class: hardwareClass }, { before: 'end' }, limit, signal);
    return page.items.reverse();
  },
  search: (words: string, task: string | null, place: Place, limit: number, signal?: AbortSignal) =>
    list<Experiment>(['search'], { q: words, task }, place, limit, signal),
  activity: (id: string, limit: number, signal?: AbortSignal) =>
    get<Activity[]>(address(['tasks', id, 'activity'], { limit }), signal),
  taskNodes: (id: string, place: Place, limit: number, signal?: AbortSignal) =>
    list<NodeSummary>(['tasks', id, 'nodes'], {}, place, limit, signal),
  node: (id: string, signal?: AbortSignal) => get<NodeSummary>(address(['nodes', id]), signal),
  peers: (signal?: AbortSignal) => get<ConnectedPeer[]>(address(['peers']), signal),
  async experiment(id: string, signal?: AbortSignal): Promise<ExperimentWithSignedText> {
    const text = await getText(address(['experiments', id]), signal);
    const detail = JSON.parse(text) as ExperimentDetail;
    return { ...detail, signedText: rawMember(text, 'signed') ?? JSON.stringify(detail.signed) };
  },
};
