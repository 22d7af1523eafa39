import { describe, expect, it } from 'vitest';
import { allRows, csvOfRows, MOST_ROWS } from './table';

describe('csvOfRows', () => {
  it('has a column for each name of any row, and quotes and defuses texts', () => {
    const text = csvOfRows([{ id: 'a', note: '=1+1', support: { known: 2 } }, { id: 'b,"c', list: [1, 'x'], gone: null }]);
    expect(text).toBe('id,note,support.known,list,gone\r\na,\'=1+1,2,,\r\n"b,""c",,,"[1,""x""]",\r\n');
  });
});

describe('allRows', () => {
  it('follows the cursors to the end', async () => {
    const asked: unknown[] = [];
    const found = await allRows(async (cursor) => {
      asked.push(cursor);
      return { items: [asked.length], next: asked.length < 3 ? `c${asked.length}` : null };
    }, () => {}, new AbortController().signal);
    expect(found).toEqual({ rows: [1, 2, 3], whole: true });
    expect(asked).toEqual([{}, { after: 'c1' }, { after: 'c2' }]);
  });

  it('stops at the most rows and says so', async () => {
    const found = await allRows(async (_, limit) => ({ items: Array<number>(limit).fill(0), next: 'more' }), () => {}, new AbortController().signal);
    expect(found.whole).toBe(false);
    expect(found.rows.length).toBe(MOST_ROWS);
  });
});
