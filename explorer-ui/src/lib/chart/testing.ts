/** For tests: series out of columns that can be read, by the way that they take from a node. */
import { encodeGraph } from '../../../dev/compact.mjs';
import type { GraphColumns } from '../api/types';
import { parseGraph } from './compact';
import type { Series } from './series';

export const seriesOf = (columns: GraphColumns & { stray?: boolean[] }): Series => parseGraph(encodeGraph(columns).buffer);

/** An id of one hex digit. */
export const idOf = (digit: string): string => digit.repeat(64);
