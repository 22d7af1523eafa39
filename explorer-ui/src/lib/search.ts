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

/** A task or a node that a search finds. */
export type Place = { kind: 'task' | 'node'; id: string; name: string };

/** Tasks and nodes looked at: the most active tasks, and the first nodes by id. */
const MAX_LOOKED_AT = 500;
/** Fewest digits of an id that are looked for: a word of a few letters is often the beginning of some id. */
const LEAST_DIGITS = 4;

/** The tasks and nodes of which each word begins a word of the name, or whose id begins with the text; `limit` at most. */
export async function places(words: string, limit: number, signal: AbortSignal): Promise<Place[]> {
  const [tasks, nodes] = await Promise.all([api.tasks({}, MAX_LOOKED_AT, signal), api.nodes({}, MAX_LOOKED_AT, signal)]);
  const found: Place[] = [
    ...tasks.items.map((task): Place => ({ kind: 'task', id: task.task_id, name: task.name })),
    ...nodes.items.map((node): Place => ({ kind: 'node', id: node.node_id, name: node.display_name ?? '' })),
  ];
  return found.filter((place) => begins(place, words)).slice(0, limit);
}

/** Whether a search for `words` finds a place. */
export function begins({ id, name }: Pick<Place, 'id' | 'name'>, words: string): boolean {
  const digits = words.trim().toLowerCase();
  if (digits.length >= LEAST_DIGITS && id.startsWith(digits)) return true;
  const wanted = words.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  const known = name.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  return wanted.length > 0 && wanted.every((word) => known.some((one) => one.startsWith(word)));
}

/** Whether to search for these words: a single letter would match most records. */
export const askable = (words: string): boolean => words.trim().length > 1 && /[\p{L}\p{N}]/u.test(words);
