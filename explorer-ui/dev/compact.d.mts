import type { GraphColumns } from '../src/lib/api/types';

export function encodeGraph(columns: GraphColumns & { stray?: boolean[] }): Uint8Array<ArrayBuffer>;
