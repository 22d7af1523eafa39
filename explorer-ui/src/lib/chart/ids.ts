/** Ids in a column of 32 bytes each: as text they would take most of a large graph's memory. */

export const ID_BYTES = 32;
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

export class Ids {
  readonly length: number;

  /** `bytes` holds one id after the other. */
  constructor(readonly bytes: Uint8Array) {
    this.length = bytes.length / ID_BYTES;
  }

  /** Ids from hex texts of 64 digits. */
  static of(texts: string[]): Ids {
    return new Ids(Uint8Array.from(texts.flatMap((text) => Array.from({ length: ID_BYTES }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16)))));
  }

  /** The id at an index, in hex. */
  at(index: number): string {
    let text = '';
    for (let i = index * ID_BYTES; i < (index + 1) * ID_BYTES; i++) text += HEX[this.bytes[i]];
    return text;
  }

  /** The index of an id in hex; -1 if it is not here. */
  indexOf(id: string): number {
    if (id.length !== 2 * ID_BYTES) return -1;
    const wanted = Ids.of([id]);
    for (let index = 0; index < this.length; index++) if (this.compare(index, wanted, 0) === 0) return index;
    return -1;
  }

  /** The index of each of the given ids, -1 if it is not here, from one pass over these ids. */
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
    for (let i = 0; i < ID_BYTES; i++) {
      const difference = this.bytes[index * ID_BYTES + i] - others.bytes[other * ID_BYTES + i];
      if (difference !== 0) return difference;
    }
    return 0;
  }

  /** The first four bytes of an id as a number. */
  #head(index: number): number {
    const at = index * ID_BYTES;
    return this.bytes[at] + this.bytes[at + 1] * 0x100 + this.bytes[at + 2] * 0x1_0000 + this.bytes[at + 3] * 0x100_0000;
  }
}
