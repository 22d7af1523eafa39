/**
 * Part of a listing of the API: one page to be turned in both directions, or a beginning that grows.
 * What is shown stays until what follows it is there.
 */
import { ApiError, type Page, type Place } from './api/client';

/** Longest page that the API gives. */
const MOST = 500;

export type Fetch<T> = (place: Place, limit: number, signal: AbortSignal) => Promise<Page<T>>;

export class Listing<T> {
  /** In the listing's order; null before the first answer. */
  items = $state.raw<T[] | null>(null);
  error = $state.raw<ApiError | null>(null);
  loading = $state(false);
  /** Where the page before begins; null at the beginning. */
  previous = $state.raw<Place | null>(null);
  /** Where the page behind begins; null at the end. */
  following = $state.raw<Place | null>(null);
  #place: Place = {};
  #controller: AbortController | null = null;

  constructor(
    private readonly fetch: Fetch<T>,
    private readonly size = 50,
  ) {}

  /** Shows the page at a place; without one, what is shown once more, as it is now. */
  async load(place: Place = this.#place): Promise<void> {
    const grown = this.#isAt(place) ? (this.items?.length ?? 0) : 0;
    if (grown > MOST) return;
    await this.#run(async (signal) => {
      let at = place;
      let page = await this.fetch(at, Math.max(this.size, grown), signal);
      if (at.before !== undefined && !page.next) {
        // The beginning is in reach: from there on the page is whole.
        at = {};
        page = await this.fetch(at, this.size, signal);
      }
      if (signal.aborted) return;
      this.#place = place;
      const [first, next] = [page.first ?? null, page.next ?? null];
      const back = at.before !== undefined;
      this.items = back ? page.items.reverse() : page.items;
      this.previous = back ? before(next) : at.after === undefined ? null : before(first);
      this.following = after(back ? first : next);
    });
  }

  /** Adds the page behind what is shown. */
  async more(): Promise<void> {
    const at = this.following;
    if (at === null) return;
    await this.#run(async (signal) => {
      const page = await this.fetch(at, this.size, signal);
      if (signal.aborted) return;
      this.items = [...(this.items ?? []), ...page.items];
      this.following = after(page.next ?? null);
    });
  }

  /** Gives up what is on its way. */
  close(): void {
    this.#controller?.abort();
    this.loading = false;
  }

  #isAt(place: Place): boolean {
    return place.after === this.#place.after && place.before === this.#place.before;
  }

  async #run(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    this.#controller?.abort();
    const controller = new AbortController();
    this.#controller = controller;
    this.loading = true;
    try {
      await work(controller.signal);
      if (!controller.signal.aborted) this.error = null;
    } catch (error) {
      if (controller.signal.aborted) return;
      this.error = error instanceof ApiError ? error : new ApiError('unreachable', String(error));
    }
    if (!controller.signal.aborted) this.loading = false;
  }
}

const after = (cursor: string | null): Place | null => (cursor === null ? null : { after: cursor });
const before = (cursor: string | null): Place | null => (cursor === null ? null : { before: cursor });
