/**
 * The node's event stream (SSE): one connection for all pages of this browser, reopened with backoff when it breaks.
 *
 * Of the pages that are shown, the one that holds a lock has the stream and passes its events on to the others by a
 * channel. A hidden page has no part in it, and catches up when it is shown. Where the browser has no locks (a page over
 * plain http from another machine), each shown page has a stream of its own.
 *
 * Listeners get typed events, at most once a frame, and `reopened` after a gap in which events may have been missed.
 */
import type { Activity, paths, ExperimentProgress, NodeStatus } from './types';
import { Sequence } from './sequence';

/** `polling`: the node has no stream to spare and is asked from time to time. */
export type Connection = 'connecting' | 'live' | 'polling' | 'retrying';

const PATH: keyof paths = '/api/v1/events';

type Events = { activity: Activity; progress: ExperimentProgress; status: NodeStatus; reopened: null };
type Listeners = { [K in keyof Events]: Set<(event: Events[K]) => void> };
type Named = { [K in keyof Events]: { name: K; event: Events[K] } }[keyof Events];
/** What the page with the stream tells the others. */
type Passed = { event: Named } | { connection: Connection } | { ask: true };

/** Backoff before the first retry. Doubles with each failure. */
const FIRST_RETRY_MS = 1_000;
/** Longest backoff: a node that was restarted is found again within half a minute. */
const LAST_RETRY_MS = 20_000;
/** Share of the backoff that is random, so that the pages of a restarted node do not return all at once. */
const JITTER = 0.25;
/** Silence after which a stream is dead: the node sends its status every 15 s. Said within 40 s with the check's period. */
const SILENCE_MS = 33_000;
/** Time between two checks for silence. */
const CHECK_MS = 3_000;
/** Time between two looks while the node has no stream to spare. */
const POLL_MS = 10_000;
/** Events kept while no frame is painted. When there are more, pages read the listings again instead. */
const MAX_QUEUED = 500;
/** Names of the lock and the channel that the pages of one node share. */
const SHARED = 'spore-events';

class Live {
  connection = $state<Connection>('connecting');
  #source: EventSource | null = null;
  #retryMs = FIRST_RETRY_MS;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #missed = false;
  /** Another page had the stream. */
  #followed = false;
  #heard = 0;
  #channel: BroadcastChannel | null = null;
  /** Gives the lock back; null while this page does not have it. */
  #release: (() => void) | null = null;
  #waiting: AbortController | null = null;
  #queue: Named[] = [];
  #frame = 0;
  #sequence = new Sequence();
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

  /** Takes part in the stream while the page is shown. Returns how to stop. */
  start(): () => void {
    const onvisibility = () => (document.hidden ? this.#leave() : this.#join());
    document.addEventListener('visibilitychange', onvisibility);
    const check = setInterval(() => this.#check(), CHECK_MS);
    onvisibility();
    return () => {
      document.removeEventListener('visibilitychange', onvisibility);
      clearInterval(check);
      this.#leave();
    };
  }

  /** Reconnects at once instead of waiting for the backoff. */
  retry(): void {
    if (this.connection === 'live') return;
    if (this.#leads) this.#open();
    else this.#channel?.postMessage({ ask: true } satisfies Passed);
  }

  /** Whether this page has the stream, or would have it while it is broken. */
  get #leads(): boolean {
    return this.#release !== null;
  }

  #join(): void {
    if (this.#channel !== null || this.#leads) return;
    this.#heard = performance.now();
    if (navigator.locks === undefined || typeof BroadcastChannel === 'undefined') {
      this.#release = () => undefined;
      this.#open();
      return;
    }
    this.#channel = new BroadcastChannel(SHARED);
    this.#channel.onmessage = ({ data }: MessageEvent<Passed>) => this.#receive(data);
    this.#channel.postMessage({ ask: true } satisfies Passed);
    // This page may have been hidden, and another page's stream did not tell it what happened.
    if (this.#missed) this.#hand({ name: 'reopened', event: null });
    const waiting = new AbortController();
    this.#waiting = waiting;
    const held = () => {
      if (waiting.signal.aborted) return Promise.resolve();
      return new Promise<void>((release) => {
        this.#release = release;
        // Between the other page's stream and this one, events may be lost.
        this.#missed ||= this.#followed;
        this.#open();
      });
    };
    navigator.locks.request(SHARED, { signal: waiting.signal }, held).catch(() => undefined);
  }

  #leave(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#close();
    this.#waiting?.abort();
    this.#release?.();
    this.#release = null;
    this.#channel?.close();
    this.#channel = null;
    this.#missed = true;
  }

  #close(): void {
    this.#source?.close();
    this.#source = null;
  }

  /** What another page says. */
  #receive(passed: Passed): void {
    if ('ask' in passed) {
      if (!this.#leads) return;
      if (this.connection === 'retrying' && this.#timer !== null) this.#open();
      this.#pass({ connection: this.connection });
      return;
    }
    if (this.#leads) return;
    this.#heard = performance.now();
    if ('connection' in passed) this.connection = passed.connection;
    else {
      if (passed.event.name === 'activity') this.#sequence.saw(passed.event.event.sequence);
      this.#followed = true;
      this.#hand(passed.event);
    }
  }

  #pass(passed: Passed): void {
    this.#channel?.postMessage(passed);
  }

  #tell(connection: Connection): void {
    this.connection = connection;
    this.#pass({ connection });
  }

  #open(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#close();
    this.#heard = performance.now();
    const { newest } = this.#sequence;
    // The stream goes on after the newest event of this page, so that none is missed in between.
    const source = new EventSource(newest === null ? PATH : `${PATH}?after=${newest}`);
    this.#source = source;
    source.onopen = () => {
      this.#heard = performance.now();
      this.#retryMs = FIRST_RETRY_MS;
      this.#tell('live');
    };
    source.addEventListener('ready', (event: MessageEvent<string>) => {
      const { sequence, resumed } = JSON.parse(event.data) as { sequence: number; resumed: boolean };
      this.#sequence.start(sequence);
      if (this.#missed && !resumed) this.#emit({ name: 'reopened', event: null });
      this.#missed = false;
    });
    source.onerror = () => void this.#fail();
    for (const name of ['activity', 'progress', 'status'] as const) {
      source.addEventListener(name, (event: MessageEvent<string>) => this.#parse(name, event.data));
    }
  }

  /** The stream broke, or did not open. */
  async #fail(): Promise<void> {
    // Close the source: the browser's own retry gives up on some answers and does not show its delay.
    this.#close();
    this.#missed = true;
    if (!this.#leads) return;
    const answers = await fetch('/api/v1/status', { cache: 'no-store' }).then((answer) => answer.ok, () => false);
    if (!this.#leads || this.#source !== null) return;
    // A node that answers, but has no stream to spare, is asked from time to time.
    if (answers && this.#retryMs > FIRST_RETRY_MS) this.#emit({ name: 'reopened', event: null });
    this.#tell(answers && this.#retryMs > FIRST_RETRY_MS ? 'polling' : 'retrying');
    const wait = this.connection === 'polling' ? POLL_MS : this.#retryMs;
    this.#timer = setTimeout(() => this.#open(), wait * (1 - JITTER * Math.random()));
    this.#retryMs = Math.min(LAST_RETRY_MS, this.#retryMs * 2);
  }

  /** Notices a stream, or a page with the stream, that says nothing any more. */
  #check(): void {
    if (document.hidden || performance.now() - this.#heard < SILENCE_MS) return;
    if (this.#leads && this.#source !== null) {
      this.#close();
      this.#missed = true;
      this.#tell('retrying');
      this.#open();
      this.connection = 'retrying';
    } else if (!this.#leads && this.connection === 'live') {
      this.connection = 'retrying';
      this.#channel?.postMessage({ ask: true } satisfies Passed);
    }
  }

  #parse<K extends keyof Events>(name: K, data: string): void {
    this.#heard = performance.now();
    let event: Events[K];
    try {
      event = JSON.parse(data) as Events[K];
    } catch (error) {
      console.warn(`The node sent a ${name} event that is not JSON.`, error);
      return;
    }
    if (name === 'activity') this.#sequence.saw((event as Activity).sequence);
    this.#emit({ name, event } as Named);
    // Changes that the stream did not bring are read from the listings.
    if (name === 'status' && this.#sequence.lacks((event as NodeStatus).sequence)) this.#emit({ name: 'reopened', event: null });
  }

  /** Hands an event to the other pages and to this one. */
  #emit(event: Named): void {
    this.#pass({ event });
    this.#hand(event);
  }

  /** Hands events to the listeners once a frame: a burst is rendered at once. */
  #hand(event: Named): void {
    if (this.#queue.length >= MAX_QUEUED) this.#queue = [{ name: 'reopened', event: null }];
    this.#queue.push(event);
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      const events = this.#queue;
      this.#queue = [];
      for (const { name, event: one } of events) {
        for (const listener of this.#listeners[name] as Set<(event: unknown) => void>) listener(one);
      }
    });
  }
}

export const live = new Live();
