/**
 * Reads the compact form of a task's graph (`GET /api/v1/tasks/{id}/graph.bin`), version 1:
 * columns one after the other, numbers as LEB128, signed ones zigzag, floats little-endian.
 */
import { Ids } from './ids';
import type { Series } from './series';

const MAGIC = [0x53, 0x50, 0x47, 0x52]; // SPGR
const VERSION = 1;
const ID_BYTES = 32;
/** Of the states. */
const STATUS = 3;
const HOLDS = 4;
const FRONTIER = 8;
const STRAY = 16;

/** The bytes are no graph in a form that this page knows. */
export class UnreadableGraph extends Error {}

/** Walks over the bytes; past their end it fails rather than make something up. */
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

  /** An unsigned number; above 2^53 rounded, as only a stranger's timestamp could be. */
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

  /** A copy of the next bytes, which typed arrays can be laid over. */
  take(length: number): ArrayBuffer {
    if (length > this.#bytes.length - this.#at) throw new UnreadableGraph('the graph was cut off');
    this.#at += length;
    return this.buffer.slice(this.#at - length, this.#at);
  }

  get rest(): number {
    return this.#bytes.length - this.#at;
  }
}

/** The columns of a graph. A parent outside them becomes none. */
export function parseGraph(buffer: ArrayBuffer): Series {
  const reader = new Reader(buffer);
  for (const byte of MAGIC) if (reader.byte() !== byte) throw new UnreadableGraph('the answer is no graph');
  const version = reader.byte();
  if (version !== VERSION) throw new UnreadableGraph(`the graph has version ${version}, which this page does not know`);
  const [length, classCount] = [reader.number(), reader.number()];
  // No record and no class takes less than a byte, so a count cannot make the page ask for memory in vain.
  if (length * ID_BYTES > reader.rest || classCount > reader.rest) throw new UnreadableGraph('the graph was cut off');
  const classNames = Array.from({ length: classCount }, () => new TextDecoder().decode(reader.take(reader.number())));
  const ids = new Ids(new Uint8Array(reader.take(length * ID_BYTES)));
  const parent = new Int32Array(length);
  for (let i = 0; i < length; i++) {
    const place = i - reader.signed();
    parent[i] = place === i || place < 0 || place >= length ? -1 : place;
  }
  const time = new Float64Array(length);
  for (let i = 0, now = 0; i < length; i++) time[i] = now += reader.number();
  // Typed arrays have the machine's order of bytes, which is this one on every machine with a browser.
  const metric = new Float64Array(reader.take(8 * length));
  const states = new Uint8Array(reader.take(length));
  const bits = (mask: number) => states.map((state) => ((state & mask) === 0 ? 0 : 1));
  const hardwareClass = new Uint32Array(length);
  for (let i = 0; i < length; i++) hardwareClass[i] = reader.number();
  const series: Series = {
    length,
    ids,
    time,
    metric,
    status: states.map((state) => state & STATUS),
    hardwareClass,
    classNames,
    parent,
    verified: bits(HOLDS),
    frontier: bits(FRONTIER),
    stray: bits(STRAY),
  };
  if (reader.rest > 0) throw new UnreadableGraph('the graph is longer than it says');
  return series;
}
