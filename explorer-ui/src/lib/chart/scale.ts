/** Linear scales, ticks, and the window into the chart that zooming and panning move. */
import type { Range } from './range';

export type Rect = { left: number; top: number; right: number; bottom: number };
/** What part of the data the plot shows; y grows upwards. */
export type Window = { x: Range; y: Range };

/** Pixel of a value; `from` and `to` are the pixels of the range's ends. */
export function project(value: number, range: Range, from: number, to: number): number {
  return from + ((value - range.min) / (range.max - range.min)) * (to - from);
}

/** Value at a pixel: the inverse of `project`. */
export function unproject(pixel: number, range: Range, from: number, to: number): number {
  return range.min + ((pixel - from) / (to - from)) * (range.max - range.min);
}

/** Round values within the range, about `wanted` of them, with steps of 1, 2 or 5. */
export function ticks(range: Range, wanted: number): number[] {
  const length = range.max - range.min;
  if (!(length > 0) || !Number.isFinite(length)) return [];
  const rough = length / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  const first = Math.ceil(range.min / step);
  const last = Math.floor(range.max / step);
  const values: number[] = [];
  for (let k = first; k <= last && values.length < 50; k++) values.push(k * step);
  return values;
}

/** Decimals that tell neighbouring ticks apart. */
export function tickDecimals(values: number[]): number {
  if (values.length < 2) return 3;
  return Math.max(0, Math.min(8, -Math.floor(Math.log10(Math.abs(values[1] - values[0])) + 1e-9)));
}

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86_400;
const TIME_STEPS = [
  1, 2, 5, 10, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR,
  6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 91 * DAY, 182 * DAY, 365 * DAY,
];

/** Round times within the range (Unix seconds), in the zone that lies `offset` seconds east of UTC. */
export function timeTicks(range: Range, wanted: number, offset = 0): { times: number[]; step: number } {
  const length = range.max - range.min;
  if (!(length > 0) || !Number.isFinite(length)) return { times: [], step: 1 };
  const rough = length / Math.max(1, wanted);
  const step = TIME_STEPS.find((size) => size >= rough) ?? 365 * DAY * Math.ceil(rough / (365 * DAY));
  const times: number[] = [];
  const first = Math.ceil((range.min + offset) / step) * step - offset;
  for (let time = first; time <= range.max && times.length < 50; time += step) times.push(time);
  return { times, step };
}

/** How a tick of that step is written. */
export function timeLabel(time: number, step: number): string {
  const date = new Date(time * 1000);
  if (Number.isNaN(date.getTime())) return '';
  if (step >= 300 * DAY) return String(date.getFullYear());
  if (step >= 28 * DAY) return date.toLocaleDateString('en-GB', { month: 'short', year: 'numeric' });
  if (step >= DAY) return date.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' });
  const clock: Intl.DateTimeFormatOptions = { hour: '2-digit', minute: '2-digit' };
  if (step < MINUTE) clock.second = '2-digit';
  const text = date.toLocaleTimeString('en-GB', clock);
  const midnight = date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0;
  return midnight ? date.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' }) : text;
}

/** `range` scaled by `factor` (below 1 zooms in) around the value `center`. */
export function zoomed(range: Range, factor: number, center: number): Range {
  return { min: center + (range.min - center) * factor, max: center + (range.max - center) * factor };
}

/** `range` moved by `by`. */
export function panned(range: Range, by: number): Range {
  return { min: range.min + by, max: range.max + by };
}

/** `range` kept near `extent`: never shorter than `least`, never much longer than it, never all beside it. */
export function limited(range: Range, extent: Range, least: number): Range {
  const whole = Math.max(extent.max - extent.min, least);
  const length = Math.min(Math.max(range.max - range.min, least), whole * 1.5);
  const center = Math.min(Math.max((range.min + range.max) / 2, extent.min), extent.max);
  return { min: center - length / 2, max: center + length / 2 };
}

/** First index whose value is at least `value`, in ascending values. */
export function lowerBound(values: ArrayLike<number>, value: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** First index whose value is greater than `value`, in ascending values. */
export function upperBound(values: ArrayLike<number>, value: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}
