/**
 * Axes: from values to pixels and back, ticks with their labels, and the window that zooming and panning move.
 *
 * d3-scale chooses the ticks. `project` stays our own: it runs for each record of each frame, up to a million
 * times, where a d3 scale takes several times as long.
 */
import { scaleLinear, scaleTime } from 'd3-scale';
import type { Range } from './range';

export type Rect = { left: number; top: number; right: number; bottom: number };
/** The part of the data that the plot shows. y grows upwards. */
export type Window = { x: Range; y: Range };
/** A value on an axis and its label. */
export type Tick = { value: number; label: string };

/** Pixel of a value; `from` and `to` are the pixels of the range's ends. */
export function project(value: number, range: Range, from: number, to: number): number {
  return from + ((value - range.min) / (range.max - range.min)) * (to - from);
}

/** Value at a pixel: the inverse of `project`. */
export function unproject(pixel: number, range: Range, from: number, to: number): number {
  return range.min + ((pixel - from) / (to - from)) * (range.max - range.min);
}

/**
 * d3's ticks for about `most` of them, and no more than `most` + 1: d3 may return twice as many as it was asked for,
 * and their labels would overlap. Also the count that d3 was asked for in the end, which its format needs.
 */
function atMost<T>(most: number, ticksFor: (count: number) => T[]): { values: T[]; count: number } {
  let count = Math.max(1, most);
  let values = ticksFor(count);
  while (values.length > most + 1 && count > 0.5) values = ticksFor((count *= 0.7));
  return { values, count };
}

/** Round values within the range, about `most` of them, with as many decimals as neighbours need to differ. */
export function valueTicks(range: Range, most: number): Tick[] {
  const length = range.max - range.min;
  if (!(length > 0) || !Number.isFinite(length)) return [];
  const scale = scaleLinear([range.min, range.max], [0, 1]);
  const { values, count } = atMost(most, (wanted) => scale.ticks(wanted));
  const format = scale.tickFormat(count);
  const step = values.length > 1 ? values[1] - values[0] : length;
  // Longer labels would not fit beside the plot.
  const scientific = (value: number) => Math.abs(value) >= 1e6 || step < 1e-7;
  const short = (value: number) => (value === 0 ? '0' : value.toExponential(1));
  return values.map((value) => ({ value, label: scientific(value) ? short(value) : format(value) }));
}

const MINUTE = 60;
const DAY = 86_400;
/** Last time that a `Date` can hold, in Unix seconds. */
const LAST_TIME = 8.64e12;

/** Round times within the range (Unix seconds) in the reader's time zone, about `most` of them. */
export function timeTicks(range: Range, most: number): Tick[] {
  if (!(range.max > range.min) || Math.abs(range.min) > LAST_TIME || Math.abs(range.max) > LAST_TIME) return [];
  const scale = scaleTime([range.min * 1000, range.max * 1000], [0, 1]);
  // The labels show whole seconds.
  const { values } = atMost(most, (wanted) => scale.ticks(wanted).filter((date) => date.getMilliseconds() === 0));
  const step = values.length > 1 ? (values[1].getTime() - values[0].getTime()) / 1000 : range.max - range.min;
  return values.map((date) => ({ value: date.getTime() / 1000, label: timeLabel(date, step) }));
}

/** The label of a tick whose neighbour is `step` seconds away: no finer than the step, and a date at midnight. */
function timeLabel(date: Date, step: number): string {
  // A day less than the shortest year and month: a clock change may shorten them.
  if (step >= 364 * DAY) return String(date.getFullYear());
  if (step >= 27 * DAY) return date.toLocaleDateString('en-GB', { month: 'short', year: 'numeric' });
  const midnight = date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0;
  if (step >= DAY || midnight) return date.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' });
  const clock: Intl.DateTimeFormatOptions = { hour: '2-digit', minute: '2-digit' };
  if (step < MINUTE) clock.second = '2-digit';
  return date.toLocaleTimeString('en-GB', clock);
}

/** `range` scaled by `factor` (below 1 zooms in) around the value `center`. */
export function zoomed(range: Range, factor: number, center: number): Range {
  return { min: center + (range.min - center) * factor, max: center + (range.max - center) * factor };
}

/** `range` moved by `by`. */
export function panned(range: Range, by: number): Range {
  return { min: range.min + by, max: range.max + by };
}

/** `range` limited by `extent`: at least `least` long, at most half as long again as `extent`, and centred within it. */
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
