/** The clock of all relative times, so that they change together. */

const TICK_MS = 5_000;

let seconds = $state(Date.now() / 1000);
setInterval(() => (seconds = Date.now() / 1000), TICK_MS);

/** Now, in Unix seconds; reactive. */
export const now = (): number => seconds;
