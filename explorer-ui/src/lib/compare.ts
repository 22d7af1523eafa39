/** What differs between experiments: tuned values, settings, and the lines of their scripts. Pure functions. */

/** Most experiments that are compared at once: more columns fit no screen. */
export const MOST_COMPARED = 6;

const TUNE = /\btune\(\s*(?:"([^"\\\n]{1,80})"|'([^'\\\n]{1,80})')\s*,\s*("[^"\n]{0,80}"|'[^'\n]{0,80}'|[^,)\n]{1,80})/g;

/** The values that a script declares as tunable, by name. Comments do not count. */
export function tunables(code: string): Map<string, string> {
  const found = new Map<string, string>();
  const text = code.replace(/^[ \t]*#.*$/gm, '');
  for (const match of text.matchAll(TUNE)) found.set(match[1] ?? match[2], match[3].trim());
  return found;
}

/** A row of a comparison: a name, and the value of each experiment; null where it has none. */
export type Row = { name: string; values: (string | null)[] };

/** The rows of all names that any of the experiments has, in the order in which the names come. */
export function rowsOf(columns: readonly ReadonlyMap<string, string>[]): Row[] {
  const names = [...new Set(columns.flatMap((column) => [...column.keys()]))];
  return names.map((name) => ({ name, values: columns.map((column) => column.get(name) ?? null) }));
}

/** Whether the experiments do not all have the same value. */
export const differs = (row: Row): boolean => row.values.some((value) => value !== row.values[0]);

/** Lines that a difference is looked for in: scripts have some hundreds. */
const MOST_LINES = 20_000;
/** Most edits that are looked for: with more, the scripts have little in common, and one stands after the other. */
const MOST_EDITS = 2_000;
/** Unchanged lines shown around a change. */
const CONTEXT = 3;

type Edit = { sign: ' ' | '+' | '-'; text: string };

/** The lines of two texts in one list: kept, removed and added, with the fewest edits (Myers). */
function editsOf(before: string[], after: string[]): Edit[] {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start++;
  let end = 0;
  while (end < before.length - start && end < after.length - start && before[before.length - 1 - end] === after[after.length - 1 - end]) end++;
  const kept = (lines: string[]): Edit[] => lines.map((text) => ({ sign: ' ', text }));
  const middle = shortest(before.slice(start, before.length - end), after.slice(start, after.length - end));
  return [...kept(before.slice(0, start)), ...middle, ...kept(before.slice(before.length - end))];
}

function shortest(before: string[], after: string[]): Edit[] {
  const [n, m] = [before.length, after.length];
  const most = Math.min(n + m, MOST_EDITS);
  /** Furthest line of `before` on each diagonal, for each number of edits. */
  const trail: Int32Array[] = [];
  let furthest = new Int32Array(2 * most + 3);
  const at = (diagonal: number) => diagonal + most + 1;
  for (let edits = 0; edits <= most; edits++) {
    trail.push(furthest.slice());
    for (let diagonal = -edits; diagonal <= edits; diagonal += 2) {
      const down = diagonal === -edits || (diagonal !== edits && furthest[at(diagonal - 1)] < furthest[at(diagonal + 1)]);
      let x = down ? furthest[at(diagonal + 1)] : furthest[at(diagonal - 1)] + 1;
      while (x < n && x - diagonal < m && before[x] === after[x - diagonal]) x++;
      furthest[at(diagonal)] = x;
      if (x >= n && x - diagonal >= m) return walked(before, after, trail, at);
    }
  }
  return [...before.map((text): Edit => ({ sign: '-', text })), ...after.map((text): Edit => ({ sign: '+', text }))];
}

/** The way back through the trail. */
function walked(before: string[], after: string[], trail: Int32Array[], at: (diagonal: number) => number): Edit[] {
  const edits: Edit[] = [];
  let [x, y] = [before.length, after.length];
  for (let step = trail.length - 1; step >= 0; step--) {
    const furthest = trail[step];
    const diagonal = x - y;
    const down = diagonal === -step || (diagonal !== step && furthest[at(diagonal - 1)] < furthest[at(diagonal + 1)]);
    const fromX = down ? furthest[at(diagonal + 1)] : furthest[at(diagonal - 1)];
    const fromY = fromX - (down ? diagonal + 1 : diagonal - 1);
    while (x > fromX && y > fromY && x > 0 && y > 0) {
      x--;
      y--;
      edits.push({ sign: ' ', text: before[x] });
    }
    if (step === 0) break;
    if (down) edits.push({ sign: '+', text: after[--y] });
    else edits.push({ sign: '-', text: before[--x] });
  }
  return edits.reverse();
}

const linesOf = (text: string): string[] => {
  const lines = text.replace(/\r\n?/g, '\n').split('\n');
  if (lines.at(-1) === '') lines.pop();
  return lines;
};

/** A unified diff of two scripts; empty where they are the same. */
export function unifiedDiff(from: string, to: string, names: [string, string]): string {
  const [before, after] = [linesOf(from), linesOf(to)];
  if (before.length > MOST_LINES || after.length > MOST_LINES) return '';
  const edits = editsOf(before, after);
  const near = new Uint8Array(edits.length);
  edits.forEach((edit, i) => {
    if (edit.sign !== ' ') near.fill(1, Math.max(0, i - CONTEXT), i + CONTEXT + 1);
  });
  const out: string[] = [];
  let [left, right] = [1, 1];
  for (let i = 0; i < edits.length; ) {
    if (near[i] === 0) {
      left++;
      right++;
      i++;
      continue;
    }
    let end = i;
    while (end < edits.length && near[end] === 1) end++;
    const hunk = edits.slice(i, end);
    const [removed, added] = [hunk.filter((edit) => edit.sign !== '+').length, hunk.filter((edit) => edit.sign !== '-').length];
    out.push(`@@ -${removed === 0 ? left - 1 : left},${removed} +${added === 0 ? right - 1 : right},${added} @@`);
    for (const edit of hunk) out.push(edit.sign + edit.text);
    left += removed;
    right += added;
    i = end;
  }
  return out.length === 0 ? '' : [`--- ${names[0]}`, `+++ ${names[1]}`, ...out, ''].join('\n');
}
