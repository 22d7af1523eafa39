/**
 * The node's event stream (SSE): one connection for the whole page, opened anew when it breaks.
 *
 * Listeners get typed events, and `reopened` after a gap, in which events may have been missed.
 */
import { API_ROOT } from './client';
import type { Activity, ExperimentProgress, NodeStatus } from './types';

export type Connection = 'connecting' | 'live' | 'retrying';

type Events = { activity: Activity; progress: ExperimentProgress; status: NodeStatus; reopened: null };
type Listeners = { [K in keyof Events]: Set<(event: Events[K]) => void> };

const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 20_000;

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

  /** Listens; returns the function that ends it. */
  on<K extends keyof Events>(name: K, listener: (event: Events[K]) => void): () => void {
    this.#listeners[name].add(listener);
    return () => this.#listeners[name].delete(listener);
  }

  /** Follows one task's events, or all with null. */
  follow(task: string | null): void {
    if (this.#source !== null && task === this.#task) return;
    this.#task = task;
    this.#open();
  }

  /** Tries at once, instead of waiting for the next retry. */
  retry(): void {
    if (this.connection !== 'live') this.#open();
  }

  #open(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#source?.close();
    const query = this.#task === null ? '' : `?task=${encodeURIComponent(this.#task)}`;
    const source = new EventSource(`${API_ROOT}/events${query}`);
    this.#source = source;
    source.onopen = () => {
      this.connection = 'live';
      this.#retryMs = FIRST_RETRY_MS;
      if (this.#missed) this.#tell('reopened', null);
      this.#missed = false;
    };
    source.onerror = () => {
      // The browser's own retry gives up on some answers and hides its delay: ours is the only one.
      source.close();
      this.#missed = true;
      this.connection = 'retrying';
      this.#timer = setTimeout(() => this.#open(), this.#retryMs);
      this.#retryMs = Math.min(LAST_RETRY_MS, this.#retryMs * 2);
    };
    for (const name of ['activity', 'progress', 'status'] as const) {
      source.addEventListener(name, (event: MessageEvent<string>) => this.#receive(name, event.data));
    }
  }

  #receive<K extends keyof Events>(name: K, data: string): void {
    try {
      this.#tell(name, JSON.parse(data) as Events[K]);
    } catch (error) {
      console.warn(`An event of the node could not be read (${name}).`, error);
    }
  }

  #tell<K extends keyof Events>(name: K, event: Events[K]): void {
    for (const listener of this.#listeners[name]) listener(event);
  }
}

export const live = new Live();
