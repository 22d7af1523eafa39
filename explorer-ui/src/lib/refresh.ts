/** Turns bursts of events into few fetches: one at a time, with pauses in proportion to the duration of a fetch. */

/** Shortest pause between two fetches: several a second would make the page flicker. */
const MIN_PAUSE_MS = 1_000;
/** Pause as a multiple of the fetch's duration, so that an open page takes little of the node's time. */
const PAUSE_PER_DURATION = 15;
/** Longest pause. */
const MAX_PAUSE_MS = 60_000;

export class Refresh {
  #timer: ReturnType<typeof setTimeout> | null = null;
  #running = false;
  #wanted = false;
  #pauseMs = MIN_PAUSE_MS;
  #closed = false;

  readonly #onVisible = () => this.request();

  constructor(private readonly fetch: () => Promise<void>) {}

  /** Requests a fetch soon, because something changed. */
  request(): void {
    if (this.#closed) return;
    if (this.#running) this.#wanted = true;
    else this.#timer ??= setTimeout(() => void this.#run(), this.#pauseMs);
  }

  close(): void {
    this.#closed = true;
    document.removeEventListener('visibilitychange', this.#onVisible);
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  async #run(): Promise<void> {
    this.#timer = null;
    if (document.hidden) {
      // A hidden page fetches when it is shown again. Adding the same listener twice has no effect.
      document.addEventListener('visibilitychange', this.#onVisible, { once: true });
      return;
    }
    this.#running = true;
    this.#wanted = false;
    const started = performance.now();
    await this.fetch();
    this.#pauseMs = Math.min(MAX_PAUSE_MS, Math.max(MIN_PAUSE_MS, (performance.now() - started) * PAUSE_PER_DURATION));
    this.#running = false;
    if (this.#wanted) this.request();
  }
}
