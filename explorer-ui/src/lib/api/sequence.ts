/** The sequence numbers of the event stream: which change was the newest, and whether one is missing. */
export class Sequence {
  /** Sequence number of the newest change that was seen; null before the stream began. */
  newest: number | null = null;
  /** What the last status named, where it was ahead of the stream. */
  #ahead: number | null = null;

  /** The stream begins after this change. */
  start(sequence: number): void {
    this.newest = sequence;
    this.#ahead = null;
  }

  saw(sequence: number): void {
    this.newest = Math.max(this.newest ?? 0, sequence);
  }

  /**
   * Whether changes up to `sequence`, which a status names, did not come. A status may be ahead of the changes that are
   * on their way, so that only what the next status still lacks is missing.
   */
  lacks(sequence: number): boolean {
    if (this.newest === null) return false;
    const lacking = this.#ahead !== null && this.newest < this.#ahead;
    if (lacking) this.newest = this.#ahead;
    this.#ahead = sequence > (this.newest ?? 0) ? sequence : null;
    return lacking;
  }
}
