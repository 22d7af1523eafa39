/** Searching as a person wants it: an answer with something in it, or the end. */
import { api, type Page, type Place } from './api/client';
import type { Experiment } from './api/types';

/** Answers without a find that are passed over: the node looks at many thousands of records for each. */
const MOST_EMPTY = 8;

/** As `api.search`, past answers that are empty and yet go on. */
export async function searched(
  words: string,
  task: string | null,
  place: Place,
  limit: number,
  signal: AbortSignal,
): Promise<Page<Experiment>> {
  let page = await api.search(words, task, place, limit, signal);
  for (let i = 0; i < MOST_EMPTY && page.items.length === 0 && page.next; i++) {
    const on: Place = place.before === undefined ? { after: page.next } : { before: page.next };
    page = await api.search(words, task, on, limit, signal);
  }
  return page;
}

/** Whether a question is worth asking: a single letter would find half of everything. */
export const askable = (words: string): boolean => words.trim().length > 1 && /[\p{L}\p{N}]/u.test(words);
