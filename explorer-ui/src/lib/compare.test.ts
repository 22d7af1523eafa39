import { describe, expect, it } from 'vitest';
import { differs, rowsOf, tunables, unifiedDiff } from './compare';
import { diffSize, parseDiff } from './diff';

/** The text that a diff makes of another one, by its hunks. */
function applied(from: string, diff: string): string {
  const before = from === '' ? [] : from.split('\n');
  const out: string[] = [];
  let at = 0;
  for (const line of parseDiff(diff)) {
    if (line.kind === 'hunk') {
      const [, start, length] = /^@@ -(\d+),(\d+)/.exec(line.text) ?? [];
      const begin = Number(length) === 0 ? Number(start) : Number(start) - 1;
      out.push(...before.slice(at, begin));
      at = begin;
    } else if (line.kind === 'add') out.push(line.text);
    else if (line.kind === 'remove') expect(before[at++]).toBe(line.text);
    else if (line.kind === 'context') {
      expect(before[at]).toBe(line.text);
      out.push(before[at++]);
    }
  }
  return [...out, ...before.slice(at)].join('\n');
}

describe('tunables', () => {
  it('finds the declared values, without those in comments', () => {
    const code = 'width = tune("width", 64, choices=[32, 64])\n# tune("old", 1)\nact = tune(\'act\', "gelu")\nlr = 2 * tune("lr", 3e-4)\n';
    expect([...tunables(code)]).toEqual([['width', '64'], ['act', '"gelu"'], ['lr', '3e-4']]);
  });
});

describe('rowsOf', () => {
  it('has a value for each experiment, or none', () => {
    const rows = rowsOf([new Map([['a', '1'], ['b', '2']]), new Map([['b', '2'], ['c', '3']])]);
    expect(rows).toEqual([{ name: 'a', values: ['1', null] }, { name: 'b', values: ['2', '2'] }, { name: 'c', values: [null, '3'] }]);
    expect(rows.map(differs)).toEqual([true, false, true]);
  });
});

describe('unifiedDiff', () => {
  it('turns the first text into the second', () => {
    const texts = ['a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n', 'a\nB\nc\nd\ne\nf\ng\nh\nx\ni\n', '', 'z\n', 'a\nb\n', 'j\ni\nh\ng\n', '--- a\n+++ b\n@@ x\n'];
    for (const from of texts) {
      for (const to of texts) {
        const diff = unifiedDiff(from, to, ['from', 'to']);
        expect(applied(from.replace(/\n$/, ''), diff), `${from} to ${to}`).toBe(to.replace(/\n$/, ''));
        expect(diff === '').toBe(from === to);
      }
    }
  });

  it('has the fewest lines', () => {
    expect(diffSize(parseDiff(unifiedDiff('a\nb\nc\nd\n', 'a\nc\nd\ne\n', ['x', 'y'])))).toEqual({ added: 1, removed: 1 });
  });

  it('of two long texts without a common line has all lines of both', () => {
    const long = (mark: string) => Array.from({ length: 3000 }, (_, i) => `${mark}${i}`).join('\n');
    expect(diffSize(parseDiff(unifiedDiff(long('a'), long('b'), ['x', 'y'])))).toEqual({ added: 3000, removed: 3000 });
  });
});
