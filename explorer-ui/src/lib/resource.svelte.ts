/** Something that is fetched: its value, whether it is on its way, and why it did not come. */
import { ApiError } from './api/client';

export class Resource<T> {
  value = $state.raw<T | null>(null);
  error = $state.raw<ApiError | null>(null);
  loading = $state(false);
  #controller: AbortController | null = null;

  constructor(private readonly fetcher: (signal: AbortSignal) => Promise<T>) {}

  /** Fetches (again). The old value stays until the new one is there; an earlier fetch is given up. */
  async load(): Promise<void> {
    this.#controller?.abort();
    const controller = new AbortController();
    this.#controller = controller;
    this.loading = true;
    try {
      const value = await this.fetcher(controller.signal);
      if (controller.signal.aborted) return;
      this.value = value;
      this.error = null;
    } catch (error) {
      if (controller.signal.aborted) return;
      this.error = error instanceof ApiError ? error : new ApiError('unreachable', String(error));
    }
    this.loading = false;
  }

  /** Gives up what is on its way. */
  close(): void {
    this.#controller?.abort();
    this.loading = false;
  }
}
