import { describe, expect, it } from 'vitest';
import { encodeGraph } from '../../../dev/compact.mjs';
import type { GraphColumns } from '../api/types';
import { parseGraph, UnreadableGraph } from './compact';
import { idOf as id } from './testing';

const COLUMNS: GraphColumns & { stray: boolean[] } = {
  ids: [id('a'), id('b'), '01'.repeat(32)],
  // The first was signed later than its parent by a clock set wrong; the last has none.
  parents: [2, 0, -1],
  timestamps: [5, 1_757_000_000, 2 ** 40],
  metrics: [1.5, -0, 1e300],
  statuses: [0, 1, 2],
  classes: [1, 0, 1],
  class_names: ['CPU', 'größer'],
  verified: [true, false, false],
  frontier: [true, false, false],
  stray: [false, true, false],
};
const bytesOf = (...parts: (string | number[])[]) =>
  Uint8Array.from(parts.flatMap((part) => (typeof part === 'string' ? [...new TextEncoder().encode(part)] : part))).buffer;

describe('parseGraph', () => {
  it('reads what the store writes, byte for byte', () => {
    // The same bytes as in the store's own test.
    const metrics = [...new Uint8Array(new Float64Array([1.5, 2]).buffer)];
    const ids = [...Array<number>(32).fill(1), ...Array<number>(32).fill(2)];
    const graph = parseGraph(bytesOf('SPGR', [1, 2, 1, 3], 'CPU', ids, [1, 0, 0xac, 0x02, 1], metrics, [1 | 16, 4 | 8, 0, 0]));
    expect(graph.length).toBe(2);
    expect(graph.classNames).toEqual(['CPU']);
    expect([graph.ids.at(0), graph.ids.at(1)]).toEqual(['01'.repeat(32), '02'.repeat(32)]);
    expect([...graph.parent]).toEqual([1, -1]);
    expect([...graph.time]).toEqual([300, 301]);
    expect([...graph.metric]).toEqual([1.5, 2]);
    expect([...graph.status]).toEqual([1, 0]);
    expect([...graph.verified, ...graph.frontier, ...graph.stray]).toEqual([0, 1, 0, 1, 1, 0]);
    expect([...graph.hardwareClass]).toEqual([0, 0]);
  });

  it('reads every column', () => {
    const graph = parseGraph(encodeGraph(COLUMNS).buffer);
    expect([0, 1, 2].map((place) => graph.ids.at(place))).toEqual(COLUMNS.ids);
    expect(COLUMNS.ids.map((wanted) => graph.ids.indexOf(wanted))).toEqual([0, 1, 2]);
    expect([graph.ids.indexOf(id('c')), graph.ids.indexOf('a')]).toEqual([-1, -1]);
    expect([...graph.parent]).toEqual(COLUMNS.parents);
    expect([...graph.time]).toEqual(COLUMNS.timestamps);
    expect([...graph.metric]).toEqual(COLUMNS.metrics);
    expect([...graph.status]).toEqual(COLUMNS.statuses);
    expect([...graph.hardwareClass]).toEqual(COLUMNS.classes);
    expect(graph.classNames).toEqual(COLUMNS.class_names);
    expect([...graph.verified, ...graph.frontier, ...graph.stray]).toEqual([1, 0, 0, 1, 0, 0, 0, 1, 0]);
  });

  it('makes none of a parent that is not there', () => {
    const graph = parseGraph(encodeGraph({ ...COLUMNS, parents: [7, 1, -1] }).buffer);
    expect([...graph.parent]).toEqual([-1, -1, -1]);
  });

  it('reads an empty graph', () => {
    expect(parseGraph(bytesOf('SPGR', [1, 0, 0])).length).toBe(0);
  });

  it('refuses what is cut off at any byte, too long, or something else', () => {
    const whole = encodeGraph(COLUMNS);
    for (let end = 0; end < whole.length; end++) {
      expect(() => parseGraph(whole.slice(0, end).buffer), `${end} bytes`).toThrow(UnreadableGraph);
    }
    expect(() => parseGraph(bytesOf([...whole, 0]))).toThrow(UnreadableGraph);
    expect(() => parseGraph(bytesOf('{"error"'))).toThrow('no graph');
    expect(() => parseGraph(bytesOf('SPGR', [2, 0, 0]))).toThrow('version 2');
    expect(() => parseGraph(bytesOf('SPGR', [1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]))).toThrow('cut off');
    expect(() => parseGraph(bytesOf('SPGR', [1], Array<number>(20).fill(0xff)))).toThrow('too long');
  });
});
