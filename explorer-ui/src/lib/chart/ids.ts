/**
 * Ids in a column, by their first bytes: 8 tell the records of a task apart, and the node sends whole ids where they do
 * not. An id in hex may be longer or shorter than those of the column: its beginning counts.
 */

/** Bytes of a short and of a whole id. */
export const ID_WIDTHS: readonly number[] = [8, 32];
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

export class Ids {
  readonly length: number;

  /** `bytes` holds one id of `width` bytes after the other. */
  constructor(
    readonly bytes: Uint8Array,
    readonly width: number,
  ) {
    this.length = bytes.length / width;
  }

  /** Ids from hex texts of at least two digits a byte. */
  static of(texts: string[], width = 32): Ids {
    return new Ids(Uint8Array.from(texts.flatMap((text) => Array.from({ length: width }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16)))), width);
  }

  /** The id at an index, in hex. */
  at(index: number): string {
    let text = '';
    for (let i = index * this.width; i < (index + 1) * this.width; i++) text += HEX[this.bytes[i]];
    return text;
  }

  /** The index of an id in hex; -1 if it is not here. */
  indexOf(id: string): number {
    if (id.length < 2 * this.width) return -1;
    const wanted = Ids.of([id], this.width);
    for (let index = 0; index < this.length; index++) if (this.compare(index, wanted, 0) === 0) return index;
    return -1;
  }

  /** The index of each of the given ids, of the same width, -1 if it is not here, from one pass over these ids. */
  indicesOf(wanted: Ids): Int32Array {
    const indices = new Int32Array(wanted.length).fill(-1);
    if (wanted.length === 0) return indices;
    const byHead = new Map<number, number[]>();
    for (let i = 0; i < wanted.length; i++) {
      const same = byHead.get(wanted.#head(i));
      if (same === undefined) byHead.set(wanted.#head(i), [i]);
      else same.push(i);
    }
    for (let index = 0; index < this.length; index++) {
      const same = byHead.get(this.#head(index));
      if (same === undefined) continue;
      for (const i of same) {
        if (indices[i] < 0 && this.compare(index, wanted, i) === 0) indices[i] = index;
      }
    }
    return indices;
  }

  /** Orders the id at an index against one of `others`, by bytes: negative if it comes first. */
  compare(index: number, others: Ids, other: number): number {
    for (let i = 0; i < this.width; i++) {
      const difference = this.bytes[index * this.width + i] - others.bytes[other * this.width + i];
      if (difference !== 0) return difference;
    }
    return 0;
  }

  /** The first four bytes of an id as a number. */
  #head(index: number): number {
    const at = index * this.width;
    return this.bytes[at] + this.bytes[at + 1] * 0x100 + this.bytes[at + 2] * 0x1_0000 + this.bytes[at + 3] * 0x100_0000;
  }
}
