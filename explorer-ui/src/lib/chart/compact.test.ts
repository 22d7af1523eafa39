import { describe, expect, it } from 'vitest';
import { parseGraph, UnreadableGraph, type Changes } from './compact';
import { bytesOf, golden } from './golden';
import type { Rows, Series } from './series';

const binary = (...parts: (string | number[])[]) =>
  Uint8Array.from(parts.flatMap((part) => (typeof part === 'string' ? [...new TextEncoder().encode(part)] : part))).buffer;

const whole = (name: keyof typeof golden): Series => {
  const answer = parseGraph(bytesOf(name));
  if (answer.content !== 'whole') throw new Error(`${name} is not whole`);
  return answer.series;
};
const changes = (name: keyof typeof golden): Changes => {
  const answer = parseGraph(bytesOf(name));
  if (answer.content !== 'changes') throw new Error(`${name} is no set of changes`);
  return answer.changes;
};

function expectRows(rows: Rows, name: keyof typeof golden): void {
  const { columns } = golden[name];
  const numbers = (flags: boolean[]) => flags.map(Number);
  expect(rows.length).toBe(columns.ids.length);
  expect(columns.ids.map((_, index) => rows.ids.at(index))).toEqual(columns.ids);
  expect([...rows.time]).toEqual(columns.timestamps);
  expect([...rows.metric]).toEqual(columns.metrics);
  expect([...rows.status]).toEqual(columns.statuses);
  expect([...rows.hardwareClass]).toEqual(columns.classes);
  expect(rows.classNames).toEqual(columns.class_names);
  expect([...rows.verified]).toEqual(numbers(columns.verified));
  expect([...rows.frontier]).toEqual(numbers(columns.frontier));
  expect([...rows.stray]).toEqual(numbers(columns.stray));
}

describe('parseGraph', () => {
  it('reads every column of a whole graph that the node wrote', () => {
    expectRows(whole('whole'), 'whole');
    expect([...whole('whole').parent]).toEqual(golden.whole.columns.parents);
    expect(parseGraph(bytesOf('whole')).cursor).toBe(golden.whole.cursor);
    const { ids } = whole('whole');
    expect(golden.whole.columns.ids.map((wanted) => ids.indexOf(wanted))).toEqual([0, 1, 2]);
    expect([ids.indexOf('c'.repeat(64)), ids.indexOf('a'), ids.indexOf('a'.repeat(64))]).toEqual([-1, -1, 0]);
  });

  it('reads every column of changes that the node wrote', () => {
    expectRows(changes('changes'), 'changes');
    expect(golden.changes.columns.parents.map((_, index) => changes('changes').parents.at(index))).toEqual(
      golden.changes.columns.parents.map((parent) => parent ?? '0'.repeat(16)),
    );
  });

  it('ignores a parent outside the columns', () => {
    expect(golden.outside.columns.parents.some((parent) => Number(parent) >= golden.outside.columns.ids.length)).toBe(true);
    expect([...whole('outside').parent]).toEqual([-1, -1, -1]);
  });

  it('reads an empty graph', () => {
    expect(whole('empty').length).toBe(0);
  });

  it('rejects bytes that are cut off anywhere, too long, or no graph', () => {
    for (const name of ['whole', 'changes'] as const) {
      const bytes = new Uint8Array(bytesOf(name));
      for (let end = 0; end < bytes.length; end++) {
        expect(() => parseGraph(bytes.slice(0, end).buffer), `${end} bytes`).toThrow(UnreadableGraph);
      }
      expect(() => parseGraph(binary([...bytes, 0]))).toThrow(UnreadableGraph);
    }
    expect(() => parseGraph(binary('{"error"'))).toThrow('no graph');
    expect(() => parseGraph(binary('SPGR', [1, 0, 0]))).toThrow('version 1');
    expect(() => parseGraph(binary('SPGR', [4, 0, 9, 0, 0, 0]))).toThrow('9 bytes');
    expect(() => parseGraph(binary('SPGR', [4, 7, 0, 0, 0]))).toThrow('content 7');
    expect(() => parseGraph(binary('SPGR', [4, 0, 8, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]))).toThrow('cut off');
    expect(() => parseGraph(binary('SPGR', [4, 0, 8], Array<number>(20).fill(0xff)))).toThrow('too long');
  });
});
