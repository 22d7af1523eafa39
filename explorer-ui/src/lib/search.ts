/** Search that continues past empty pages. */
import { api, type Page, type Cursor } from './api/client';
import type { Experiment } from './api/types';

/** Empty pages that are skipped. For each of them the node looks at many thousands of records. */
const MAX_EMPTY = 8;

/** As `api.search`, but skips pages that are empty and have a next page. */
export async function searched(
  words: string,
  task: string | null,
  cursor: Cursor,
  limit: number,
  signal: AbortSignal,
): Promise<Page<Experiment>> {
  let page = await api.search(words, task, cursor, limit, signal);
  for (let i = 0; i < MAX_EMPTY && page.items.length === 0 && page.next; i++) {
    const further: Cursor = cursor.before === undefined ? { after: page.next } : { before: page.next };
    page = await api.search(words, task, further, limit, signal);
  }
  return page;
}

/** Whether to search for these words: a single letter would match most records. */
export const askable = (words: string): boolean => words.trim().length > 1 && /[\p{L}\p{N}]/u.test(words);
