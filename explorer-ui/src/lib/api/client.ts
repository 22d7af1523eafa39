/**
 * The one way to the node's HTTP API: a typed function for each route.
 *
 * Every failure becomes an `ApiError` that says what to do next; nothing here keeps state.
 */
import { rawMember } from '../json';
import type {
  Activity,
  ExperimentDetail,
  ExperimentPage,
  Frontier,
  GraphColumns,
  NodeSummary,
  Peer,
  Status,
  TaskSummary,
} from './types';

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

async function getText(url: string, signal?: AbortSignal): Promise<string> {
  let response: Response;
  let text: string;
  try {
    response = await fetch(url, { signal, headers: { accept: 'application/json' } });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError('unreachable', 'The API is unreachable.', 'Is the node running? Start it with: spore run');
  }
  if (response.ok) return text;
  throw problemOf(response.status, text);
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

export const api = {
  status: (signal?: AbortSignal) => get<Status>(address(['status']), signal),
  tasks: (signal?: AbortSignal) => get<TaskSummary[]>(address(['tasks']), signal),
  task: (id: string, signal?: AbortSignal) => get<TaskSummary>(address(['tasks', id]), signal),
  graph: (id: string, signal?: AbortSignal) => get<GraphColumns>(address(['tasks', id, 'graph']), signal),
  frontier: (id: string, hardwareClass: string | null, signal?: AbortSignal) =>
    get<Frontier>(address(['tasks', id, 'frontier'], { class: hardwareClass }), signal),
  taskExperiments: (id: string, before: string | null, limit: number, signal?: AbortSignal) =>
    get<ExperimentPage>(address(['tasks', id, 'experiments'], { before, limit }), signal),
  nodeExperiments: (node: string, before: string | null, limit: number, signal?: AbortSignal) =>
    get<ExperimentPage>(address(['experiments'], { before, limit, node }), signal),
  activity: (id: string, limit: number, signal?: AbortSignal) =>
    get<Activity[]>(address(['tasks', id, 'activity'], { limit }), signal),
  taskNodes: (id: string, signal?: AbortSignal) => get<NodeSummary[]>(address(['tasks', id, 'nodes']), signal),
  node: (id: string, signal?: AbortSignal) => get<NodeSummary>(address(['nodes', id]), signal),
  peers: (signal?: AbortSignal) => get<Peer[]>(address(['peers']), signal),
  async experiment(id: string, signal?: AbortSignal): Promise<ExperimentWithSignedText> {
    const text = await getText(address(['experiments', id]), signal);
    const detail = JSON.parse(text) as ExperimentDetail;
    return { ...detail, signedText: rawMember(text, 'signed') ?? JSON.stringify(detail.signed) };
  },
};
