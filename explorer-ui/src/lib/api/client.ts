/**
 * The page's only access to the node's HTTP API: one function for each route that the page reads.
 *
 * Paths, parameters and answers are checked against the types that `npm run types` makes from the node's
 * OpenAPI document. Every failure becomes an `ApiError` with a hint. Nothing here keeps state.
 */
import createClient from 'openapi-fetch';
import { parseGraph, UnreadableGraph } from '../chart/compact';
import { merged } from '../chart/merge';
import type { Series } from '../chart/series';
import { rawMember } from '../json';
import type { FrontierList } from '../route';
import type { ExperimentDetail, Improvement, paths, Problem, ProblemKind } from './types';

/** Why a request failed: `unreachable` when there was no usable answer, else the HTTP status. */
export class ApiError extends Error {
  constructor(
    readonly reason: 'unreachable' | number,
    message: string,
    readonly hint: string | null = null,
  ) {
    super(message);
  }
}

const client = createClient<paths>();

type Answer<T> = { data?: T; error?: unknown; response: Response };

/** The data of an answer with status 200. Any other outcome is thrown as an `ApiError`; an aborted request keeps its own error. */
async function dataOf<T>(request: Promise<Answer<T>>, signal?: AbortSignal): Promise<T> {
  let answer: Answer<T>;
  try {
    answer = await request;
  } catch (error) {
    if (signal?.aborted) throw error;
    if (error instanceof SyntaxError) throw notJson();
    throw new ApiError('unreachable', 'The API is unreachable.', 'Is the node running? Start it with: spore run');
  }
  if (!answer.response.ok) throw refusalOf(answer.response.status, answer.error);
  if (answer.data === undefined) throw notJson();
  return answer.data;
}

const notJson = () => new ApiError('unreachable', 'The answer is not JSON.', 'Is another program listening on this port?');

const NOT_YET = 'This node may not have received it yet.';
/** The page's hints for kinds of problems. For others, the API's own hint is shown. */
const HINTS: Partial<Record<ProblemKind, string>> = { unknown_task: NOT_YET, unknown_experiment: NOT_YET, unknown_node: NOT_YET };

const isProblem = (body: unknown): body is Problem => body !== null && typeof body === 'object' && 'kind' in body && 'error' in body;

/** The error that a refused request becomes. `body` is parsed if it is JSON. */
function refusalOf(status: number, body: unknown): ApiError {
  if (isProblem(body)) return new ApiError(status, body.error, HINTS[body.kind] ?? body.hint ?? null);
  // Another body is not from our API but, for example, from a proxy.
  const hint = status >= 500 ? 'Is the node running? Start it with: spore run' : null;
  return new ApiError(status, `The API answered with status ${status}.`, hint);
}

/** One page of a listing: in the listing's order, or in the reverse order when it was requested with `before`. */
export type Page<T> = {
  items: T[];
  /** Cursor of the first item. */
  first?: string | null;
  /** Cursor from which to continue in the same direction; absent on the last page. */
  next?: string | null;
};

/** Where a page begins: after or before an item. Without both, at the beginning of the listing. */
export type Cursor = { after?: string; before?: string };

export type Order = 'time' | 'metric';

/** An experiment with the text of its signed object as the node sent it: the signature covers the spelling of its numbers. */
export type ExperimentWithSignedText = ExperimentDetail & { signedText: string };

/** A task's graph, and the cursor that the node takes to send the changes after it. */
export type TaskGraph = { cursor: string; series: Series };

/** A task's graph. With an earlier one, only its changes are fetched, unless the node answers with the whole graph. */
async function graph(id: string, earlier: TaskGraph | null, signal?: AbortSignal): Promise<TaskGraph> {
  const params = { path: { id }, query: { since: earlier?.cursor } };
  const bytes = await dataOf(client.GET('/api/v1/tasks/{id}/graph.bin', { params, parseAs: 'arrayBuffer', signal }), signal);
  try {
    const answer = parseGraph(bytes);
    if (answer.content === 'whole') return { cursor: answer.cursor, series: answer.series };
    if (earlier === null) throw new UnreadableGraph('it has only changes');
    if (answer.changes.length > 0 && answer.changes.ids.width !== earlier.series.ids.width) throw new UnreadableGraph('its ids have another length');
    return { cursor: answer.cursor, series: merged(earlier.series, answer.changes) };
  } catch (error) {
    if (!(error instanceof UnreadableGraph)) throw error;
    throw new ApiError('unreachable', `The graph cannot be read: ${error.message}.`, 'Reload the page: the node may have been updated.');
  }
}

export const api = {
  status: (signal?: AbortSignal) => dataOf(client.GET('/api/v1/status', { signal }), signal),
  tasks: (cursor: Cursor, limit: number, signal?: AbortSignal) =>
    dataOf(client.GET('/api/v1/tasks', { params: { query: { ...cursor, limit } }, signal }), signal),
  task: (id: string, signal?: AbortSignal) => dataOf(client.GET('/api/v1/tasks/{id}', { params: { path: { id } }, signal }), signal),
  graph,
  /** A list of a task's best experiments: of one class, or of all. */
  frontier: (id: string, view: FrontierList, hardwareClass: string | null, cursor: Cursor, limit: number, signal?: AbortSignal) =>
    dataOf(client.GET('/api/v1/tasks/{id}/frontier', { params: { path: { id }, query: { view, class: hardwareClass ?? undefined, ...cursor, limit } }, signal }), signal),
  /** The records of a task; of one class and of some statuses, separated by commas, if these are given. */
  taskExperiments: (id: string, order: Order, hardwareClass: string | null, status: string | null, cursor: Cursor, limit: number, signal?: AbortSignal) =>
    dataOf(client.GET('/api/v1/tasks/{id}/experiments', { params: { path: { id }, query: { order, class: hardwareClass ?? undefined, status: status ?? undefined, ...cursor, limit } }, signal }), signal),
  nodeExperiments: (node: string, cursor: Cursor, limit: number, signal?: AbortSignal) =>
    dataOf(client.GET('/api/v1/experiments', { params: { query: { node, ...cursor, limit } }, signal }), signal),
  children: (id: string, cursor: Cursor, limit: number, signal?: AbortSignal) =>
    dataOf(client.GET('/api/v1/experiments/{id}/children', { params: { path: { id }, query: { ...cursor, limit } }, signal }), signal),
  /** The last `limit` records that beat all before them, by time. */
  async lastImprovements(id: string, hardwareClass: string | null, limit: number, signal?: AbortSignal): Promise<Improvement[]> {
    const query = { class: hardwareClass ?? undefined, before: 'end', limit };
    const page = await dataOf(client.GET('/api/v1/tasks/{id}/improvements', { params: { path: { id }, query }, signal }), signal);
    return page.items.reverse();
  },
  search: (words: string, task: string | null, cursor: Cursor, limit: number, signal?: AbortSignal) =>
    dataOf(client.GET('/api/v1/search', { params: { query: { q: words, task: task ?? undefined, ...cursor, limit } }, signal }), signal),
  activity: (id: string, limit: number, signal?: AbortSignal) =>
    dataOf(client.GET('/api/v1/tasks/{id}/activity', { params: { path: { id }, query: { limit } }, signal }), signal),
  taskNodes: (id: string, cursor: Cursor, limit: number, signal?: AbortSignal) =>
    dataOf(client.GET('/api/v1/tasks/{id}/nodes', { params: { path: { id }, query: { ...cursor, limit } }, signal }), signal),
  nodes: (cursor: Cursor, limit: number, signal?: AbortSignal) => dataOf(client.GET('/api/v1/nodes', { params: { query: { ...cursor, limit } }, signal }), signal),
  /** The nodes with confirmed work, on the classes of a task or of all, those with the most first. */
  leaders: (task: string | null, signal?: AbortSignal) => dataOf(client.GET('/api/v1/leaders', { params: { query: { task: task ?? undefined, limit: 500 } }, signal }), signal),
  node: (id: string, signal?: AbortSignal) => dataOf(client.GET('/api/v1/nodes/{id}', { params: { path: { id } }, signal }), signal),
  peers: (signal?: AbortSignal) => dataOf(client.GET('/api/v1/peers', { signal }), signal),
  async experiment(id: string, signal?: AbortSignal): Promise<ExperimentWithSignedText> {
    const text = await dataOf(client.GET('/api/v1/experiments/{id}', { params: { path: { id } }, parseAs: 'text', signal }), signal);
    try {
      const detail = JSON.parse(text) as ExperimentDetail;
      return { ...detail, signedText: rawMember(text, 'signed') ?? JSON.stringify(detail.signed) };
    } catch {
      throw notJson();
    }
  },
};
