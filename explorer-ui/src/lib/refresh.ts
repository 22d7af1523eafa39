/** Answers bursts of events with few fetches: at most one at a time, and rests in proportion to what one costs. */

/** Shortest rest between two fetches, in milliseconds: several a second would only flicker. */
const LEAST_REST_MS = 1_000;
/** Rest as a multiple of the fetch's own time, so that a graph of megabytes loads the node little. */
const REST_PER_COST = 15;
const MOST_REST_MS = 60_000;

export class Refresh {
  #timer: ReturnType<typeof setTimeout> | null = null;
  #running = false;
  #wanted = false;
  #restMs = LEAST_REST_MS;
  #closed = false;

  readonly #onSeen = () => this.request();

  constructor(private readonly fetch: () => Promise<void>) {}

  /** Something changed: fetch soon. */
  request(): void {
    if (this.#closed) return;
    if (this.#running) this.#wanted = true;
    else this.#timer ??= setTimeout(() => void this.#run(), this.#restMs);
  }

  close(): void {
    this.#closed = true;
    document.removeEventListener('visibilitychange', this.#onSeen);
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  async #run(): Promise<void> {
    this.#timer = null;
    if (document.hidden) {
      // Nobody looks: the fetch waits until somebody does. The same listener is added once only.
      document.addEventListener('visibilitychange', this.#onSeen, { once: true });
      return;
    }
    this.#running = true;
    this.#wanted = false;
    const started = performance.now();
    await this.fetch();
    this.#restMs = Math.min(MOST_REST_MS, Math.max(LEAST_REST_MS, (performance.now() - started) * REST_PER_COST));
    this.#running = false;
    if (this.#wanted) this.request();
  }
}
