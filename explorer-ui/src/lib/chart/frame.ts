/**
 * Geometry of the chart: from records and window to pixels. Drawing and hit testing share it, and tests need no
 * canvas. Nothing is drawn here.
 */
import { fullRange, padded, robustRange, robustTimeRange, type Range } from './range';
import { limited, lowerBound, project, upperBound, type Rect, type Window } from './scale';
import { CRASH, type Series } from './series';

export type XAxis = 'time' | 'order';

/** The default window: it shows the filtered records, with or without outliers. */
export type Home = Window & { crashLane: boolean };

export type Frame = {
  series: Series;
  mask: Uint8Array;
  goal: string;
  axis: XAxis;
  /** Position of each record on the x axis, ascending. */
  xs: Float64Array;
  window: Window;
  home: Home;
  plot: Rect;
};

/** Share of the range that is added at each end, so that marks do not touch the edge. */
const PAD_X = 0.02;
const PAD_Y = 0.06;
/** Height of the strip for crashes, in CSS pixels. */
export const LANE = 18;

/** Positions on the x axis: times, or indices in the order of time. */
export function positions(series: Series, axis: XAxis): Float64Array {
  return axis === 'time' ? series.time : Float64Array.from({ length: series.length }, (_, i) => i);
}

/** The window over all records that pass the mask. With `robust`, outliers that would compress the rest are left out. */
export function homeOf(series: Series, mask: Uint8Array, axis: XAxis, robust: boolean): Home {
  // Allocated at full length, because growing a list of a million numbers takes most of the time.
  const allXs = new Float64Array(series.length);
  const allYs = new Float64Array(series.length);
  let [shown, measured] = [0, 0];
  for (let i = 0; i < series.length; i++) {
    if (mask[i] === 0) continue;
    allXs[shown++] = axis === 'time' ? series.time[i] : i;
    if (series.status[i] !== CRASH) allYs[measured++] = series.metric[i];
  }
  const [xs, ys, crashLane] = [allXs.subarray(0, shown), allYs.subarray(0, measured), measured < shown];
  const x = (robust && axis === 'time' ? robustTimeRange(xs) : fullRange(xs)) ?? { min: 0, max: 1 };
  const y = (robust ? robustRange(ys) : fullRange(ys)) ?? { min: 0, max: 1 };
  return { x: paddedX(x, axis), y: padded(y, PAD_Y), crashLane };
}

function paddedX(range: Range, axis: XAxis): Range {
  if (range.max > range.min) return padded(range, PAD_X);
  const around = axis === 'time' ? 60 : 1;
  return { min: range.min - around, max: range.max + around };
}

/** Limits a moved window to the surroundings of the data. */
export function limitedWindow(window: Window, home: Home, axis: XAxis): Window {
  return {
    x: limited(window.x, home.x, axis === 'time' ? 4 : 2),
    y: limited(window.y, home.y, Math.max((home.y.max - home.y.min) * 1e-4, 1e-12)),
  };
}

/** The y range of the records within the window; null if none of them has a metric. */
export function visibleY(frame: Frame): Range | null {
  const [from, to] = visibleSpan(frame);
  const values: number[] = [];
  for (let i = from; i < to; i++) {
    if (frame.mask[i] === 1 && frame.series.status[i] !== CRASH) values.push(frame.series.metric[i]);
  }
  const range = robustRange(values);
  return range && padded(range, PAD_Y);
}

/** First and one-past-last index of the records within the window's x range. */
export function visibleSpan(frame: Frame): [number, number] {
  return [lowerBound(frame.xs, frame.window.x.min), upperBound(frame.xs, frame.window.x.max)];
}

/** The strip for crashes, which have no metric: at the edge where metrics are worst. */
export function laneRect(frame: Frame): Rect | null {
  if (!frame.home.crashLane) return null;
  const { left, right, top, bottom } = frame.plot;
  return frame.goal === 'maximize' ? { left, right, top: bottom - LANE, bottom } : { left, right, top, bottom: top + LANE };
}

/** The plot without the crash strip. */
export function bodyRect(frame: Frame): Rect {
  const lane = laneRect(frame);
  if (lane === null) return frame.plot;
  return lane.top === frame.plot.top ? { ...frame.plot, top: lane.bottom } : { ...frame.plot, bottom: lane.top };
}

export type Projection = {
  x: number;
  y: number;
  /** The sign of the side on which an outlier lies, which is drawn at the edge; 0 inside the window. */
  beyondX: -1 | 0 | 1;
  beyondY: -1 | 0 | 1;
};

/** Returns the projection of records to pixels, with the edges of the frame computed in advance. */
export function projector(frame: Frame): (index: number, out: Projection) => boolean {
  const { series, xs, window, home } = frame;
  const body = bodyRect(frame);
  const lane = laneRect(frame);
  const laneY = lane === null ? 0 : (lane.top + lane.bottom) / 2;
  return (i, out) => {
    out.beyondX = 0;
    out.beyondY = 0;
    const x = xs[i];
    out.x = project(x, window.x, body.left, body.right);
    if (x < window.x.min || x > window.x.max) {
      // Outliers of the default window are drawn at the edge. Records that were zoomed away are not drawn.
      if (x >= home.x.min && x <= home.x.max) return false;
      out.beyondX = x < window.x.min ? -1 : 1;
      out.x = out.beyondX < 0 ? body.left : body.right;
    }
    if (series.status[i] === CRASH) {
      out.y = laneY;
      return true;
    }
    const y = series.metric[i];
    out.y = project(y, window.y, body.bottom, body.top);
    if (!(y >= window.y.min && y <= window.y.max)) {
      if (y >= home.y.min && y <= home.y.max) return false;
      out.beyondY = y < window.y.min ? -1 : 1;
      out.y = out.beyondY < 0 ? body.bottom : body.top;
    }
    return true;
  };
}

/** Number of shown records outside the default window. */
export function outlierCount(series: Series, mask: Uint8Array, xs: Float64Array, home: Home): number {
  let outliers = 0;
  for (let i = 0; i < series.length; i++) {
    if (mask[i] === 0) continue;
    const y = series.metric[i];
    const beyondY = series.status[i] !== CRASH && !(y >= home.y.min && y <= home.y.max);
    if (beyondY || xs[i] < home.x.min || xs[i] > home.x.max) outliers++;
  }
  return outliers;
}

/** The shown record nearest to a pixel, within `reach` pixels; frontier records win ties. -1 for none. */
export function hitTest(frame: Frame, x: number, y: number, reach: number): number {
  const toPixels = projector(frame);
  const out: Projection = { x: 0, y: 0, beyondX: 0, beyondY: 0 };
  let nearest = -1;
  let least = reach * reach;
  for (let i = 0; i < frame.series.length; i++) {
    if (frame.mask[i] === 0 || !toPixels(i, out)) continue;
    const dx = out.x - x;
    const dy = out.y - y;
    // Frontier records are few and are what people aim at: they are hit from further away.
    const distance = (dx * dx + dy * dy) * (frame.series.frontier[i] === 1 ? 0.5 : 1);
    if (distance <= least) {
      least = distance;
      nearest = i;
    }
  }
  return nearest;
}
