// The compact form of a task's graph, as a node sends it: `src/lib/chart/compact.ts` reads it.

function number(out, value) {
  let rest = BigInt(value);
  do {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    out.push(rest > 0n ? low | 0x80 : low);
  } while (rest > 0n);
}

const signed = (out, value) => number(out, value < 0 ? -2 * value - 1 : 2 * value);

/** Bytes out of columns as the API's JSON has them; parents are places, -1 for none. */
export function encodeGraph(columns) {
  const head = [...new TextEncoder().encode('SPGR'), 1];
  number(head, columns.ids.length);
  number(head, columns.class_names.length);
  for (const name of columns.class_names) {
    const bytes = new TextEncoder().encode(name);
    number(head, bytes.length);
    head.push(...bytes);
  }
  const [places, states, classes] = [[], [], []];
  columns.parents.forEach((parent, i) => signed(places, parent < 0 ? 0 : i - parent));
  columns.timestamps.forEach((time, i) => number(places, BigInt.asUintN(64, BigInt(time) - BigInt(columns.timestamps[i - 1] ?? 0))));
  const metrics = new DataView(new ArrayBuffer(8 * columns.ids.length));
  columns.metrics.forEach((metric, i) => metrics.setFloat64(8 * i, metric, true));
  columns.statuses.forEach((status, i) => {
    states.push(status | (columns.verified[i] ? 4 : 0) | (columns.frontier[i] ? 8 : 0) | (columns.stray?.[i] ? 16 : 0));
    number(classes, columns.classes[i]);
  });
  const parts = [head, columns.ids.flatMap((id) => id.match(/../g).map((byte) => parseInt(byte, 16))), places, new Uint8Array(metrics.buffer), states, classes];
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
