import { describe, expect, it } from 'vitest';
import { ApiError, type Page, type Cursor } from './api/client';
import { Listing } from './listing.svelte';

/** A listing of numbers as the API answers it; its cursors are the numbers. */
function listingOf(numbers: number[]) {
  return async (cursor: Cursor, limit: number): Promise<Page<number>> => {
    if (cursor.after === 'bad') throw new ApiError(400, 'bad cursor');
    const rows = cursor.before === undefined ? numbers.filter((n) => n > Number(cursor.after ?? -1)) : numbers.filter((n) => n < Number(cursor.before)).reverse();
    const items = rows.slice(0, limit);
    return { items, first: items.length > 0 ? String(items[0]) : null, next: rows.length > limit ? String(items.at(-1)) : null };
  };
}
const upTo = (end: number, from = 0) => Array.from({ length: end - from }, (_, i) => from + i);

describe('a listing', () => {
  it('can be paged to its end and back to its beginning', async () => {
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

  it('shows a full first page when fewer items than a page come before the cursor', async () => {
    const listing = new Listing(listingOf(upTo(10)), 4);
    await listing.load({ before: '2' });
    expect([listing.items, listing.previous]).toEqual([[0, 1, 2, 3], null]);
  });

  it('keeps its length when it is refreshed', async () => {
    const numbers = upTo(10, 1);
    const listing = new Listing((cursor, limit) => listingOf(numbers)(cursor, limit), 4);
    await listing.load();
    await listing.more();
    numbers.unshift(0);
    await listing.load();
    expect([listing.items, listing.following]).toEqual([upTo(8), { after: '7' }]);
  });

  it('keeps its items when the next page fails', async () => {
    const listing = new Listing(listingOf(upTo(10)), 4);
    await listing.load({});
    await listing.load({ after: 'bad' });
    expect([listing.items, listing.error?.message, listing.loading]).toEqual([[0, 1, 2, 3], 'bad cursor', false]);
    await listing.load();
    expect([listing.items, listing.error]).toEqual([[0, 1, 2, 3], null]);
  });
});
