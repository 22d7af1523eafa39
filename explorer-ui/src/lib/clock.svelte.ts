/** The time of day for relative times, moved in one place so that all of them agree. */

const TICK_MS = 5_000;

let seconds = $state(Date.now() / 1000);
setInterval(() => (seconds = Date.now() / 1000), TICK_MS);

/** Now, in Unix seconds; reactive. */
export const now = (): number => seconds;
