/**
 * The node's event stream (SSE): one connection for the whole page, reopened with backoff when it breaks.
 *
 * Listeners get typed events, and `reopened` after a gap in which events may have been missed.
 */
import type { Activity, paths, ExperimentProgress, NodeStatus } from './types';

export type Connection = 'connecting' | 'live' | 'retrying';

const PATH: keyof paths = '/api/v1/events';

type Events = { activity: Activity; progress: ExperimentProgress; status: NodeStatus; reopened: null };
type Listeners = { [K in keyof Events]: Set<(event: Events[K]) => void> };

/** Backoff before the first retry. Doubles with each failure. */
const FIRST_RETRY_MS = 1_000;
/** Longest backoff: a node that was restarted is found again within half a minute. */
const LAST_RETRY_MS = 20_000;
/** Share of the backoff that is random, so that the pages of a restarted node do not return all at once. */
const JITTER = 0.25;

class Live {
  connection = $state<Connection>('connecting');
  #source: EventSource | null = null;
  #task: string | null = null;
  #retryMs = FIRST_RETRY_MS;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #missed = false;
  readonly #listeners: Listeners = {
    activity: new Set(),
    progress: new Set(),
    status: new Set(),
    reopened: new Set(),
  };

  /** Adds a listener and returns the function that removes it. */
  on<K extends keyof Events>(name: K, listener: (event: Events[K]) => void): () => void {
    this.#listeners[name].add(listener);
    return () => this.#listeners[name].delete(listener);
  }

  /** Subscribes to the events of one task, or of all tasks with null. */
  follow(task: string | null): void {
    if (this.#source !== null && task === this.#task) return;
    this.#task = task;
    this.#open();
  }

  /** Reconnects at once instead of waiting for the backoff. */
  retry(): void {
    if (this.connection !== 'live') this.#open();
  }

  #open(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#source?.close();
    const query = this.#task === null ? '' : `?task=${encodeURIComponent(this.#task)}`;
    const source = new EventSource(`${PATH}${query}`);
    this.#source = source;
    source.onopen = () => {
      this.connection = 'live';
      this.#retryMs = FIRST_RETRY_MS;
      if (this.#missed) this.#emit('reopened', null);
      this.#missed = false;
    };
    source.onerror = () => {
      // Close the source: the browser's own retry gives up on some answers and does not show its delay.
      source.close();
      this.#missed = true;
      this.connection = 'retrying';
      this.#timer = setTimeout(() => this.#open(), this.#retryMs * (1 - JITTER * Math.random()));
      this.#retryMs = Math.min(LAST_RETRY_MS, this.#retryMs * 2);
    };
    for (const name of ['activity', 'progress', 'status'] as const) {
      source.addEventListener(name, (event: MessageEvent<string>) => this.#receive(name, event.data));
    }
  }

  #receive<K extends keyof Events>(name: K, data: string): void {
    try {
      this.#emit(name, JSON.parse(data) as Events[K]);
    } catch (error) {
      console.warn(`The node sent a ${name} event that is not JSON.`, error);
    }
  }

  #emit<K extends keyof Events>(name: K, event: Events[K]): void {
    for (const listener of this.#listeners[name]) listener(event);
  }
}

export const live = new Live();
