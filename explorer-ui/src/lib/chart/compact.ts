/**
 * Reads the compact form of a task's graph (`GET /api/v1/tasks/{id}/graph.bin`), version 4: the whole graph, or the
 * records that changed since an earlier answer. `storage/src/read/graph.rs` describes the format.
 */
import { ID_WIDTHS, Ids } from './ids';
import type { Rows, Series } from './series';

const MAGIC = [0x53, 0x50, 0x47, 0x52]; // SPGR
const VERSION = 4;
const WHOLE = 0;
const CHANGES = 1;
/** Bits of a record's state. */
const STATUS = 3;
const HOLDS = 4;
const FRONTIER = 8;
const STRAY = 16;
const REFUSED = 32;
const DISPUTED = 64;

/** Records that were added or changed, in (timestamp, id) order, with their parents by id: zeros without a parent. */
export type Changes = Rows & { parents: Ids };

/** An answer. Its cursor, passed back as `since`, gives the changes after it. */
export type GraphAnswer =
  | { content: 'whole'; cursor: string; series: Series }
  | { content: 'changes'; cursor: string; changes: Changes };

/** The bytes are not a graph in a form that this page knows. */
export class UnreadableGraph extends Error {}

/** Reads bytes in order. Reading past their end is an error. */
class Reader {
  #at = 0;
  readonly #bytes: Uint8Array;

  constructor(private readonly buffer: ArrayBuffer) {
    this.#bytes = new Uint8Array(buffer);
  }

  byte(): number {
    if (this.#at >= this.#bytes.length) throw new UnreadableGraph('the graph was cut off');
    return this.#bytes[this.#at++];
  }

  /** An unsigned number. Rounded above 2^53, which only an untrusted timestamp exceeds. */
  number(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      if (scale > 2 ** 62) throw new UnreadableGraph('the graph holds a number that is too long');
    }
  }

  signed(): number {
    const value = this.number();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  text(): string {
    return new TextDecoder().decode(this.take(this.number()));
  }

  /** A copy of the next bytes, over which a typed array can be laid. */
  take(length: number): ArrayBuffer {
    if (length > this.rest) throw new UnreadableGraph('the graph was cut off');
    this.#at += length;
    return this.buffer.slice(this.#at - length, this.#at);
  }

  ids(count: number, width: number): Ids {
    return new Ids(new Uint8Array(this.take(count * width)), width);
  }

  get rest(): number {
    return this.#bytes.length - this.#at;
  }
}

/** Reads an answer. A parent outside the columns of a whole graph becomes none. */
export function parseGraph(buffer: ArrayBuffer): GraphAnswer {
  const reader = new Reader(buffer);
  for (const byte of MAGIC) if (reader.byte() !== byte) throw new UnreadableGraph('the answer is no graph');
  const version = reader.byte();
  if (version !== VERSION) throw new UnreadableGraph(`the graph has version ${version}, which this page does not know`);
  const content = reader.byte();
  if (content !== WHOLE && content !== CHANGES) throw new UnreadableGraph(`the graph has content ${content}, which this page does not know`);
  const width = reader.byte();
  if (!ID_WIDTHS.includes(width)) throw new UnreadableGraph(`the graph has ids of ${width} bytes, which this page does not know`);
  const cursor = reader.text();
  const [length, classCount] = [reader.number(), reader.number()];
  // Each record and each class takes at least this many bytes, so a wrong count cannot make the page allocate memory.
  if (length * width > reader.rest || classCount > reader.rest) throw new UnreadableGraph('the graph was cut off');
  const classNames = Array.from({ length: classCount }, () => reader.text());
  const ids = reader.ids(length, width);
  const answer: GraphAnswer =
    content === WHOLE
      ? { content: 'whole', cursor, series: readWhole(reader, ids, classNames) }
      : { content: 'changes', cursor, changes: readChanges(reader, ids, classNames) };
  if (reader.rest > 0) throw new UnreadableGraph('the graph is longer than it says');
  return answer;
}

function readWhole(reader: Reader, ids: Ids, classNames: string[]): Series {
  const parent = new Int32Array(ids.length);
  for (let i = 0; i < ids.length; i++) {
    const index = i - reader.signed();
    parent[i] = index === i || index < 0 || index >= ids.length ? -1 : index;
  }
  return { ...readRows(reader, ids, classNames), parent };
}

function readChanges(reader: Reader, ids: Ids, classNames: string[]): Changes {
  const parents = reader.ids(ids.length, ids.width);
  return { ...readRows(reader, ids, classNames), parents };
}

/** The columns after the parents. */
function readRows(reader: Reader, ids: Ids, classNames: string[]): Rows {
  const { length } = ids;
  const time = new Float64Array(length);
  for (let i = 0, now = 0; i < length; i++) time[i] = now += reader.number();
  // Typed arrays have the machine's order of bytes, which is little-endian wherever a browser runs.
  // The lowest byte of every metric comes first, then the next one of every metric.
  const planes = new Uint8Array(reader.take(8 * length));
  const bytes = new Uint8Array(8 * length);
  for (let place = 0, at = 0; place < 8; place++) for (let i = 0; i < length; i++) bytes[8 * i + place] = planes[at++];
  const metric = new Float64Array(bytes.buffer);
  const states = new Uint8Array(reader.take(length));
  const bits = (mask: number) => states.map((state) => ((state & mask) === 0 ? 0 : 1));
  const hardwareClass = new Uint32Array(length);
  for (let i = 0; i < length; i++) hardwareClass[i] = reader.number();
  return {
    length,
    ids,
    time,
    metric,
    status: states.map((state) => state & STATUS),
    hardwareClass,
    classNames,
    verified: bits(HOLDS),
    frontier: bits(FRONTIER),
    stray: bits(STRAY),
    refused: bits(REFUSED),
    disputed: bits(DISPUTED),
  };
}
