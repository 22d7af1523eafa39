/** Short texts for numbers and times. No function throws, because the values are untrusted. */

const MINUS = '\u2212';
const NONE = '–';
/** Largest count that is written in full. */
const MOST_EXACT = 1e12;

/** A metric: four decimals in the usual range, scientific notation outside it. */
export function metric(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  const text = size !== 0 && (size >= 1e5 || size < 1e-3) ? value.toExponential(3) : value.toFixed(size >= 1000 ? 1 : 4);
  return text.replace('-', MINUS);
}

/** A difference of two metrics, always with its sign. */
export function delta(value: number): string {
  if (!Number.isFinite(value)) return NONE;
  if (value === 0) return '±0';
  const text = metric(Math.abs(value));
  return (value > 0 ? '+' : MINUS) + text;
}

/** Whether a change of the metric is an improvement for the goal; null without a change. */
export function improves(change: number, goal: string): boolean | null {
  if (change === 0 || !Number.isFinite(change)) return null;
  return goal === 'maximize' ? change > 0 : change < 0;
}

/** A count with thousands separated. */
export function count(value: number): string {
  if (!Number.isFinite(value)) return NONE;
  // Larger counts are rounded by JavaScript, and would be as long as the page is wide.
  return Math.abs(value) > MOST_EXACT ? value.toExponential(3).replace('-', MINUS) : Math.round(value).toLocaleString('en-US');
}

/** A large count in three digits: 950, 12.4k, 3.10M. */
export function compact(value: number): string {
  if (!Number.isFinite(value)) return NONE;
  const steps: [number, string][] = [[1e12, 'T'], [1e9, 'B'], [1e6, 'M'], [1e3, 'k']];
  for (const [size, unit] of steps) {
    if (Math.abs(value) >= 1e3 * size && size === 1e12) return value.toExponential(2);
    if (Math.abs(value) >= size) return (value / size).toPrecision(3).replace(/e\+.*/, '') + unit;
  }
  return String(Math.round(value));
}

/** A duration in seconds as text: 45 s, 5 min, 3 h 20 min, 12 d. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return NONE;
  const s = Math.max(0, Math.round(seconds));
  if (s < 90) return `${s} s`;
  const minutes = Math.round(s / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
  return `${count(Math.round(hours / 24))} d`;
}

/** A time relative to `now`, both in Unix seconds, in the past or in the future. */
export function ago(timestamp: number, now: number): string {
  const past = now - timestamp;
  if (!Number.isFinite(past)) return NONE;
  if (Math.abs(past) < 5) return 'just now';
  const text = span(Math.abs(past));
  return past > 0 ? `${text} ago` : `in ${text}`;
}

function span(seconds: number): string {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.round(seconds / 3600)} h`;
  if (seconds < 86_400 * 2) return `${Math.round(seconds / 3600)} h`;
  if (seconds < 86_400 * 60) return `${Math.round(seconds / 86_400)} d`;
  if (seconds < 86_400 * 700) return `${Math.round(seconds / (86_400 * 30.44))} months`;
  return `${count(seconds / (86_400 * 365.25))} years`;
}

/** The date of a Unix time, or null outside the range of dates. */
export function dateOf(timestamp: number): Date | null {
  const date = new Date(timestamp * 1000);
  return Number.isNaN(date.getTime()) ? null : date;
}

/** Date and time to the second, in the user's time zone. */
export function dateTime(timestamp: number): string {
  const date = dateOf(timestamp);
  if (date === null) return `Unix time ${timestamp}`;
  return date.toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });
}

/** A count with the singular or the plural of a noun. */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}
