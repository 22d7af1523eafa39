/** Ids in a column of 32 bytes each: as text they would take most of a large graph's memory. */

const BYTES = 32;
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

export class Ids {
  readonly length: number;

  /** `bytes` holds one id after the other. */
  constructor(private readonly bytes: Uint8Array) {
    this.length = bytes.length / BYTES;
  }

  /** The id at a place, in hex. */
  at(place: number): string {
    let text = '';
    for (let i = place * BYTES; i < (place + 1) * BYTES; i++) text += HEX[this.bytes[i]];
    return text;
  }

  /** The place of an id; -1 where it is not here. */
  indexOf(id: string): number {
    if (id.length !== 2 * BYTES) return -1;
    const wanted = Uint8Array.from({ length: BYTES }, (_, i) => Number.parseInt(id.slice(2 * i, 2 * i + 2), 16));
    for (let place = 0; place < this.length; place++) {
      let i = 0;
      while (i < BYTES && this.bytes[place * BYTES + i] === wanted[i]) i++;
      if (i === BYTES) return place;
    }
    return -1;
  }
}
