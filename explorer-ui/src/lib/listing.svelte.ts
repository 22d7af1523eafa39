/**
 * Part of a listing of the API: one page that can be turned in both directions, or a first page that grows.
 * The shown items stay until the next ones have arrived.
 */
import { ApiError, type Page, type Cursor } from './api/client';

/** Items of the longest page that the API serves. */
const MAX_PAGE = 500;

export type Fetch<T> = (cursor: Cursor, limit: number, signal: AbortSignal) => Promise<Page<T>>;

export class Listing<T> {
  /** In the listing's order; null before the first answer. */
  items = $state.raw<T[] | null>(null);
  error = $state.raw<ApiError | null>(null);
  loading = $state(false);
  /** Cursor of the previous page; null on the first page. */
  previous = $state.raw<Cursor | null>(null);
  /** Cursor of the next page; null on the last page. */
  following = $state.raw<Cursor | null>(null);
  #cursor: Cursor = {};
  #controller: AbortController | null = null;

  constructor(
    private readonly fetch: Fetch<T>,
    private readonly size = 50,
  ) {}

  /** Loads the page at a cursor. Without a cursor, refreshes the shown page. */
  async load(cursor: Cursor = this.#cursor): Promise<void> {
    const grown = this.#isAt(cursor) ? (this.items?.length ?? 0) : 0;
    if (grown > MAX_PAGE) return;
    await this.#run(async (signal) => {
      let at = cursor;
      let page = await this.fetch(at, Math.max(this.size, grown), signal);
      if (at.before !== undefined && !page.next) {
        // Fewer items than a page come before this cursor: show the first page instead, which is full.
        at = {};
        page = await this.fetch(at, this.size, signal);
      }
      if (signal.aborted) return;
      this.#cursor = cursor;
      const [first, next] = [page.first ?? null, page.next ?? null];
      const back = at.before !== undefined;
      this.items = back ? page.items.reverse() : page.items;
      this.previous = back ? before(next) : at.after === undefined ? null : before(first);
      this.following = after(back ? first : next);
    });
  }

  /** Appends the next page. */
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

  /** Aborts a request under way. */
  close(): void {
    this.#controller?.abort();
    this.loading = false;
  }

  #isAt(cursor: Cursor): boolean {
    return cursor.after === this.#cursor.after && cursor.before === this.#cursor.before;
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

const after = (cursor: string | null): Cursor | null => (cursor === null ? null : { after: cursor });
const before = (cursor: string | null): Cursor | null => (cursor === null ? null : { before: cursor });
