/** Rows of a listing as CSV (RFC 4180) and JSON, for export. Texts are untrusted: none becomes a formula of a spreadsheet. */
import type { Cursor, Page } from './api/client';
import { cell } from './csv';

/** Most rows of an export: more would fill the memory of the page. */
export const MOST_ROWS = 20_000;
/** Rows asked for at once: the most that the API gives. */
const STEP = 500;

type Row = Record<string, unknown>;

/** A row with its nested members under names with dots, such as `support.known_for`. Lists become JSON. */
function flat(row: Row, prefix = ''): Map<string, string> {
  const cells = new Map<string, string>();
  for (const [name, value] of Object.entries(row)) {
    const path = prefix + name;
    if (value === null || value === undefined) cells.set(path, '');
    else if (Array.isArray(value)) cells.set(path, cell(JSON.stringify(value)));
    else if (typeof value === 'object') for (const [inner, text] of flat(value as Row, `${path}.`)) cells.set(inner, text);
    else cells.set(path, typeof value === 'string' ? cell(value) : String(value));
  }
  return cells;
}

/** The rows with a column for each name that any of them has, in the order in which the names come. */
export function csvOfRows(rows: readonly object[]): string {
  const flattened = rows.map((row) => flat(row as Row));
  const names = [...new Set(flattened.flatMap((row) => [...row.keys()]))];
  const lines = [names.map(cell), ...flattened.map((row) => names.map((name) => row.get(name) ?? ''))];
  return lines.map((line) => `${line.join(',')}\r\n`).join('');
}

/**
 * All rows of a listing, page by page, from its beginning, at most `MOST_ROWS`. `onrows` is told how many there are so far.
 */
export async function allRows<T>(
  fetchPage: (cursor: Cursor, limit: number, signal: AbortSignal) => Promise<Page<T>>,
  onrows: (count: number) => void,
  signal: AbortSignal,
): Promise<{ rows: T[]; whole: boolean }> {
  const rows: T[] = [];
  let cursor: Cursor = {};
  for (;;) {
    const page = await fetchPage(cursor, STEP, signal);
    rows.push(...page.items);
    onrows(rows.length);
    if (!page.next) return { rows, whole: true };
    if (rows.length >= MOST_ROWS) return { rows, whole: false };
    cursor = { after: page.next };
  }
}
