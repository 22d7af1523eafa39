import { describe, expect, it } from 'vitest';
import { ApiError, type Page, type Place } from './api/client';
import { Listing } from './listing.svelte';

/** A listing of numbers as the API answers it; its cursors are the numbers. */
function listingOf(numbers: number[]) {
  return async (place: Place, limit: number): Promise<Page<number>> => {
    if (place.after === 'bad') throw new ApiError(400, 'bad cursor');
    const rows = place.before === undefined ? numbers.filter((n) => n > Number(place.after ?? -1)) : numbers.filter((n) => n < Number(place.before)).reverse();
    const items = rows.slice(0, limit);
    return { items, first: items.length > 0 ? String(items[0]) : null, next: rows.length > limit ? String(items.at(-1)) : null };
  };
}
const upTo = (end: number, from = 0) => Array.from({ length: end - from }, (_, i) => from + i);

describe('a listing', () => {
  it('is turned to its end and back to its beginning', async () => {
    const listing = new Listing(listingOf(upTo(10)), 4);
    await listing.load({});
    expect([listing.items, listing.previous]).toEqual([[0, 1, 2, 3], null]);
    await listing.load(listing.following ?? {});
    expect(listing.items).toEqual([4, 5, 6, 7]);
    await listing.load(listing.following ?? {});
    expect([listing.items, listing.following]).toEqual([[8, 9], null]);
    await listing.load(listing.previous ?? {});
    expect(listing.items).toEqual([4, 5, 6, 7]);
    expect([listing.previous, listing.following]).toEqual([{ before: '4' }, { after: '7' }]);
    await listing.load(listing.previous ?? {});
    expect([listing.items, listing.previous, listing.following]).toEqual([[0, 1, 2, 3], null, { after: '3' }]);
  });

  it('shows a whole page at its beginning, however few stood before', async () => {
    const listing = new Listing(listingOf(upTo(10)), 4);
    await listing.load({ before: '2' });
    expect([listing.items, listing.previous]).toEqual([[0, 1, 2, 3], null]);
  });

  it('keeps what it has grown to when it is read again', async () => {
    const numbers = upTo(10, 1);
    const listing = new Listing((place, limit) => listingOf(numbers)(place, limit), 4);
    await listing.load();
    await listing.more();
    numbers.unshift(0);
    await listing.load();
    expect([listing.items, listing.following]).toEqual([upTo(8), { after: '7' }]);
  });

  it('keeps what it shows when the next page does not come', async () => {
    const listing = new Listing(listingOf(upTo(10)), 4);
    await listing.load({});
    await listing.load({ after: 'bad' });
    expect([listing.items, listing.error?.message, listing.loading]).toEqual([[0, 1, 2, 3], 'bad cursor', false]);
    await listing.load();
    expect([listing.items, listing.error]).toEqual([[0, 1, 2, 3], null]);
  });
});
