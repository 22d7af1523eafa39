/** For tests: graphs in the compact form, as the node's own code wrote them. `tests/tests/browser.rs` makes the file. */
import file from './golden.json';

export type Golden = {
  /** In hex. */
  bytes: string;
  cursor: string;
  columns: {
    ids: string[];
    /** Places, -1 without a parent; of changes ids, null without a parent. */
    parents: (number | string | null)[];
    timestamps: number[];
    metrics: number[];
    statuses: number[];
    classes: number[];
    class_names: string[];
    verified: boolean[];
    refused: boolean[];
    disputed: boolean[];
    frontier: boolean[];
    stray: boolean[];
  };
};

type Name = 'whole' | 'outside' | 'empty' | 'older' | 'changes' | 'newer';

export const golden: Record<Name, Golden> = file;

export const bytesOf = (name: Name): ArrayBuffer =>
  Uint8Array.from(golden[name].bytes.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16)).buffer;
