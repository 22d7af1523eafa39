import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Refresh } from './refresh';

describe('Refresh', () => {
  const page = Object.assign(new EventTarget(), { hidden: false });

  beforeEach(() => {
    page.hidden = false;
    vi.useFakeTimers();
    vi.stubGlobal('document', page);
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  it('makes one fetch for a burst, and one more for requests during the fetch', async () => {
    let finish = () => {};
    const fetch = vi.fn(() => new Promise<void>((resolve) => (finish = resolve)));
    const refresh = new Refresh(fetch);
    for (let i = 0; i < 50; i++) refresh.request();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(fetch).toHaveBeenCalledTimes(1);
    for (let i = 0; i < 50; i++) refresh.request();
    finish();
    await vi.advanceTimersByTimeAsync(120_000);
    expect(fetch).toHaveBeenCalledTimes(2);
  });

  it('waits while the page is hidden', async () => {
    const fetch = vi.fn(async () => {});
    const refresh = new Refresh(fetch);
    page.hidden = true;
    for (let i = 0; i < 5; i++) {
      refresh.request();
      await vi.advanceTimersByTimeAsync(60_000);
    }
    expect(fetch).not.toHaveBeenCalled();
    page.hidden = false;
    page.dispatchEvent(new Event('visibilitychange'));
    await vi.advanceTimersByTimeAsync(60_000);
    expect(fetch).toHaveBeenCalledTimes(1);
  });

  it('does nothing after it was closed', async () => {
    const fetch = vi.fn(async () => {});
    const refresh = new Refresh(fetch);
    refresh.request();
    refresh.close();
    refresh.request();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(fetch).not.toHaveBeenCalled();
  });
});
