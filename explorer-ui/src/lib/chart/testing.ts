/** For tests: series made of readable columns. */
import type { GraphColumns } from '../api/types';
import { Ids } from './ids';
import type { Series } from './series';

/** The series that `parseGraph` gives for these columns: a parent outside them becomes none. */
export function seriesOf(columns: Omit<GraphColumns, 'refused' | 'disputed'> & { stray?: boolean[]; refused?: boolean[]; disputed?: boolean[] }): Series {
  const flags = (column: boolean[]) => Uint8Array.from(column, Number);
  const { length } = columns.ids;
  return {
    length,
    ids: Ids.of(columns.ids),
    time: Float64Array.from(columns.timestamps),
    metric: Float64Array.from(columns.metrics),
    status: Uint8Array.from(columns.statuses),
    hardwareClass: Uint32Array.from(columns.classes),
    classNames: columns.class_names,
    parent: Int32Array.from(columns.parents, (parent, i) => (parent === i || parent >= length ? -1 : parent)),
    verified: flags(columns.verified),
    frontier: flags(columns.frontier),
    refused: flags(columns.refused ?? columns.ids.map(() => false)),
    disputed: flags(columns.disputed ?? columns.ids.map(() => false)),
    stray: flags(columns.stray ?? columns.ids.map(() => false)),
  };
}

/** An id of one hex digit. */
export const idOf = (digit: string): string => digit.repeat(64);
