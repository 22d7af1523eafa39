/** A value that is fetched, with its state: loading, and the error of the last attempt. */
import { untrack } from 'svelte';
import { ApiError } from './api/client';

export class Resource<T> {
  value = $state.raw<T | null>(null);
  error = $state.raw<ApiError | null>(null);
  loading = $state(false);
  #controller: AbortController | null = null;

  /** `fetcher` is also given the value that was fetched before, null at first. */
  constructor(private readonly fetcher: (signal: AbortSignal, value: T | null) => Promise<T>) {}

  /** Fetches (again). The old value stays until the new one is there; a fetch under way is aborted. */
  async load(): Promise<void> {
    this.#controller?.abort();
    const controller = new AbortController();
    this.#controller = controller;
    this.loading = true;
    try {
      // An effect that loads must not depend on the value: it would run again with each answer.
      const value = await this.fetcher(controller.signal, untrack(() => this.value));
      if (controller.signal.aborted) return;
      this.value = value;
      this.error = null;
    } catch (error) {
      if (controller.signal.aborted) return;
      this.error = error instanceof ApiError ? error : new ApiError('unreachable', String(error));
    }
    this.loading = false;
  }

  /** Aborts a fetch under way. */
  close(): void {
    this.#controller?.abort();
    this.loading = false;
  }
}
