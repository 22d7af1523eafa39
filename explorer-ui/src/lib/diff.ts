/** Splits unified diffs into numbered lines, for display only. */

export type DiffLine = {
  kind: 'file' | 'hunk' | 'add' | 'remove' | 'context' | 'note';
  text: string;
  /** Line number in the parent's script; null if the line is not in it. */
  before: number | null;
  /** Line number in this script; null if the line is not in it. */
  after: number | null;
};

const HUNK = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@/;

/** The lines of a unified diff. A line that does not parse becomes a note, so that nothing is hidden. */
export function parseDiff(diff: string): DiffLine[] {
  const lines = diff.split('\n');
  if (lines.at(-1) === '') lines.pop();
  let before = 0;
  let after = 0;
  // Lines that are left of the current hunk by its header. Inside a hunk, `---` is a removed line and not a file name.
  let left = 0;
  let right = 0;
  return lines.map((line): DiffLine => {
    const hunk = left <= 0 && right <= 0 ? HUNK.exec(line) : null;
    if (hunk) {
      before = Number(hunk[1]);
      after = Number(hunk[3]);
      left = Number(hunk[2] ?? 1);
      right = Number(hunk[4] ?? 1);
      return { kind: 'hunk', text: line, before: null, after: null };
    }
    if (left > 0 || right > 0) {
      if (line.startsWith('+')) {
        right--;
        return { kind: 'add', text: line.slice(1), before: null, after: after++ };
      }
      if (line.startsWith('-')) {
        left--;
        return { kind: 'remove', text: line.slice(1), before: before++, after: null };
      }
      if (line.startsWith(' ') || line === '') {
        left--;
        right--;
        return { kind: 'context', text: line.slice(1), before: before++, after: after++ };
      }
    } else if (line.startsWith('--- ') || line.startsWith('+++ ')) {
      return { kind: 'file', text: line, before: null, after: null };
    }
    return { kind: 'note', text: line, before: null, after: null };
  });
}

/** Numbers of added and removed lines. */
export function diffSize(lines: DiffLine[]): { added: number; removed: number } {
  return {
    added: lines.filter((line) => line.kind === 'add').length,
    removed: lines.filter((line) => line.kind === 'remove').length,
  };
}
