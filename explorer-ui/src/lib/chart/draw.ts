/** Paints a frame on a canvas. `frame.ts` decides what is shown and where. */
import { bodyRect, laneRect, projector, visibleSpan, type Frame, type Projection } from './frame';
import { project, timeTicks, valueTicks, type Tick } from './scale';
import { ancestry, childrenOf, CRASH, isClaim, isDisputed, isRefused, KEEP } from './series';

export type Palette = Record<
  'ink' | 'faint' | 'line' | 'surface' | 'lane' | 'keep' | 'discard' | 'crash' | 'frontier' | 'best' | 'edge' | 'focus',
  string
>;

/** The best-so-far line of a class: the indices of the records that hold and improved it, in order of time. */
export type BestLine = { name: string; steps: number[] };
type LineEnd = { name: string; y: number };

/** From this number of visible marks on, the best-so-far lines are drawn above the marks. */
const DENSE = 2_000;

/** With more edges than this, edges are not drawn while the window moves. */
const EDGES_IN_MOTION = 1_500;
/** With more edges than this, only edges to kept records are drawn: all of them would cover the plot. */
const ALL_EDGES = 4_000;
/** Edges drawn at most. */
const MAX_EDGES = 20_000;
/** Up to this number edges are curves. Straight lines are cheaper. */
const CURVED_EDGES = 1_500;

/** Smallest radius of a mark that is drawn as a ring, in CSS pixels: a smaller ring looks like a disc. */
const RING_FROM = 2;
/** Opacity of a claim's mark that is too small for a ring. */
const FAINT_CLAIM = 0.45;

const FONT = '11px ui-sans-serif, system-ui, sans-serif';

/** Radius of a mark in CSS pixels, by the number of visible marks. */
export function markRadius(visible: number): number {
  if (visible < 200) return 4.5;
  if (visible < 1_000) return 3.5;
  if (visible < 5_000) return 2.6;
  return visible < 20_000 ? 2 : 1.5;
}

/** Draws the axes, edges, marks and best-so-far lines. */
export function drawBase(ctx: CanvasRenderingContext2D, frame: Frame, palette: Palette, best: BestLine[], moving: boolean) {
  ctx.save();
  drawAxes(ctx, frame, palette);
  ctx.beginPath();
  const { left, top, right, bottom } = frame.plot;
  ctx.rect(left - 8, top - 8, right - left + 16, bottom - top + 16);
  ctx.clip();
  drawEdges(ctx, frame, palette, moving);
  // The lines are behind a few marks, and in front of many, which would hide them.
  const dense = countVisible(frame) > DENSE;
  const ends = dense ? [] : drawBest(ctx, frame, palette, best);
  drawMarks(ctx, frame, palette);
  drawFrontier(ctx, frame, palette);
  if (dense) ends.push(...drawBest(ctx, frame, palette, best));
  if (best.length > 1) drawLabels(ctx, ends, frame.plot.right - 4, palette);
  ctx.restore();
}

function drawAxes(ctx: CanvasRenderingContext2D, frame: Frame, palette: Palette) {
  const { plot, window } = frame;
  const body = bodyRect(frame);
  const lane = laneRect(frame);
  ctx.font = FONT;
  ctx.lineWidth = 1;
  ctx.strokeStyle = palette.line;
  ctx.fillStyle = palette.faint;
  if (lane !== null) {
    ctx.fillStyle = palette.lane;
    ctx.fillRect(lane.left, lane.top, lane.right - lane.left, lane.bottom - lane.top);
    ctx.fillStyle = palette.crash;
    ctx.textAlign = 'right';
    ctx.textBaseline = 'middle';
    ctx.fillText('crash', plot.left - 8, (lane.top + lane.bottom) / 2);
    ctx.fillStyle = palette.faint;
  }
  ctx.textAlign = 'right';
  ctx.textBaseline = 'middle';
  ctx.beginPath();
  for (const { value, label } of valueTicks(window.y, Math.max(2, (body.bottom - body.top) / 55))) {
    const y = Math.round(project(value, window.y, body.bottom, body.top)) + 0.5;
    ctx.moveTo(plot.left, y);
    ctx.lineTo(plot.right, y);
    ctx.fillText(label, plot.left - 8, y);
  }
  ctx.stroke();
  ctx.textBaseline = 'top';
  ctx.textAlign = 'center';
  for (const { value, label } of xTicks(frame)) {
    const x = project(value, window.x, plot.left, plot.right);
    const half = ctx.measureText(label).width / 2;
    ctx.fillText(label, Math.min(Math.max(x, plot.left + half - 6), plot.right - half + 6), plot.bottom + 8);
    ctx.fillRect(Math.round(x), plot.bottom, 1, 4);
  }
}

function xTicks({ plot, window, axis }: Frame): Tick[] {
  const most = Math.max(2, (plot.right - plot.left) / 110);
  if (axis === 'time') return timeTicks(window.x, most);
  return valueTicks(window.x, most)
    .filter(({ value }) => Number.isInteger(value) && value >= 0)
    .map(({ value }) => ({ value, label: `#${value.toLocaleString('en-US')}` }));
}

function drawEdges(ctx: CanvasRenderingContext2D, frame: Frame, palette: Palette, moving: boolean) {
  const { series, mask } = frame;
  const [from, to] = visibleSpan(frame);
  let all = 0;
  for (let i = from; i < to; i++) if (mask[i] === 1 && series.parent[i] >= 0) all++;
  const keepsOnly = all > ALL_EDGES;
  const toPixels = projector(frame);
  const a: Projection = { x: 0, y: 0, beyondX: 0, beyondY: 0 };
  const b: Projection = { x: 0, y: 0, beyondX: 0, beyondY: 0 };
  const edges: number[] = [];
  for (let i = from; i < to && edges.length < MAX_EDGES * 4; i++) {
    const parent = series.parent[i];
    if (mask[i] === 0 || parent < 0 || mask[parent] === 0) continue;
    if (keepsOnly && series.status[i] !== KEEP) continue;
    if (series.status[i] === CRASH || series.status[parent] === CRASH) continue;
    if (!toPixels(i, b)) continue;
    if (!toPixels(parent, a)) {
      a.x = project(frame.xs[parent], frame.window.x, frame.plot.left, frame.plot.right);
      a.y = project(series.metric[parent], frame.window.y, frame.plot.bottom, frame.plot.top);
    }
    // An edge to an outlier at the top or bottom would point to the wrong value: leave it out.
    // A parent to the left or right of the plot has its true height, so edges from a distant root stay.
    if (b.beyondX !== 0 || a.beyondY !== 0 || b.beyondY !== 0) continue;
    edges.push(a.x, a.y, b.x, b.y);
  }
  const count = edges.length / 4;
  if (moving && count > EDGES_IN_MOTION) return;
  ctx.globalAlpha = count > 5_000 ? 0.12 : count > 800 ? 0.22 : 0.4;
  ctx.strokeStyle = palette.edge;
  ctx.lineWidth = 1;
  strokeEdges(ctx, edges, count <= CURVED_EDGES);
  ctx.globalAlpha = 1;
}

function strokeEdges(ctx: CanvasRenderingContext2D, edges: number[], curved: boolean) {
  // Many short paths are cheaper than one long path.
  const batch = 400;
  for (let start = 0; start < edges.length; start += batch * 4) {
    ctx.beginPath();
    const end = Math.min(edges.length, start + batch * 4);
    for (let k = start; k < end; k += 4) edge(ctx, edges[k], edges[k + 1], edges[k + 2], edges[k + 3], curved);
    ctx.stroke();
  }
}

/** Adds an edge that leaves the parent horizontally and bends towards the child. */
function edge(ctx: CanvasRenderingContext2D, ax: number, ay: number, bx: number, by: number, curved: boolean) {
  ctx.moveTo(ax, ay);
  if (curved) ctx.bezierCurveTo(ax + (bx - ax) * 0.55, ay, ax + (bx - ax) * 0.65, by, bx, by);
  else ctx.lineTo(bx, by);
}

function drawMarks(ctx: CanvasRenderingContext2D, frame: Frame, palette: Palette) {
  const { series, mask } = frame;
  const visible = countVisible(frame);
  const radius = markRadius(visible);
  const toPixels = projector(frame);
  const out: Projection = { x: 0, y: 0, beyondX: 0, beyondY: 0 };
  // Draw discards first, so that keeps lie above them. Each status has one colour, set once.
  for (const status of [1, 2, 0]) {
    ctx.fillStyle = ctx.strokeStyle = status === KEEP ? palette.keep : status === CRASH ? palette.crash : palette.discard;
    ctx.globalAlpha = status === KEEP ? 0.9 : visible > 5_000 ? 0.45 : 0.7;
    ctx.lineWidth = 1.2;
    for (let i = 0; i < series.length; i++) {
      if (series.status[i] !== status || mask[i] === 0 || series.frontier[i] === 1 || !toPixels(i, out)) continue;
      if (out.beyondX !== 0 || out.beyondY !== 0) pointer(ctx, out, Math.max(3, radius));
      else if (status === CRASH) cross(ctx, out.x, out.y, Math.max(1.5, radius * 0.8));
      else if (isRefused(series, i)) {
        ctx.strokeStyle = ctx.fillStyle = palette.crash;
        claim(ctx, out.x, out.y, radius);
        struck(ctx, out.x, out.y, radius);
        ctx.strokeStyle = ctx.fillStyle = palette.keep;
      } else if (isDisputed(series, i)) {
        ctx.strokeStyle = ctx.fillStyle = palette.frontier;
        disputed(ctx, out.x, out.y, radius);
        ctx.strokeStyle = ctx.fillStyle = palette.keep;
      } else if (isClaim(series, i)) claim(ctx, out.x, out.y, radius);
      else disc(ctx, out.x, out.y, status === KEEP ? radius : radius * 0.8);
    }
  }
  ctx.globalAlpha = 1;
}

function countVisible(frame: Frame): number {
  const [from, to] = visibleSpan(frame);
  let visible = 0;
  for (let i = from; i < to; i++) visible += frame.mask[i];
  return visible;
}

function disc(ctx: CanvasRenderingContext2D, x: number, y: number, radius: number) {
  if (radius < 1.7) {
    ctx.fillRect(x - radius, y - radius, radius * 2, radius * 2);
    return;
  }
  fillCircle(ctx, x, y, radius);
}

/** The mark of a kept record that does not hold: a ring, where a record that holds is a disc. */
function claim(ctx: CanvasRenderingContext2D, x: number, y: number, radius: number) {
  if (radius < RING_FROM) {
    const alpha = ctx.globalAlpha;
    ctx.globalAlpha = FAINT_CLAIM;
    disc(ctx, x, y, radius);
    ctx.globalAlpha = alpha;
    return;
  }
  ctx.beginPath();
  ctx.arc(x, y, radius - 0.6, 0, 2 * Math.PI);
  ctx.stroke();
}

/** The stroke through the ring of a refused record. */
function struck(ctx: CanvasRenderingContext2D, x: number, y: number, radius: number) {
  const reach = Math.max(2, radius) + 1;
  ctx.beginPath();
  ctx.moveTo(x - reach, y + reach);
  ctx.lineTo(x + reach, y - reach);
  ctx.stroke();
}

/** The mark of a disputed record: a square on its corner, around a dot. */
function disputed(ctx: CanvasRenderingContext2D, x: number, y: number, radius: number) {
  const reach = Math.max(2.5, radius + 0.8);
  ctx.beginPath();
  ctx.moveTo(x, y - reach);
  ctx.lineTo(x + reach, y);
  ctx.lineTo(x, y + reach);
  ctx.lineTo(x - reach, y);
  ctx.closePath();
  ctx.stroke();
  if (radius >= RING_FROM) ctx.fillRect(x - 0.8, y - 0.8, 1.6, 1.6);
}

function fillCircle(ctx: CanvasRenderingContext2D, x: number, y: number, radius: number) {
  ctx.beginPath();
  ctx.arc(x, y, radius, 0, 2 * Math.PI);
  ctx.fill();
}

function cross(ctx: CanvasRenderingContext2D, x: number, y: number, radius: number) {
  if (radius <= 1.6) {
    ctx.fillRect(x - 0.75, y - 3, 1.5, 6);
    return;
  }
  ctx.beginPath();
  ctx.moveTo(x - radius, y - radius);
  ctx.lineTo(x + radius, y + radius);
  ctx.moveTo(x - radius, y + radius);
  ctx.lineTo(x + radius, y - radius);
  ctx.stroke();
}

/** Draws a triangle at the edge that points towards an outlier. */
function pointer(ctx: CanvasRenderingContext2D, at: Projection, radius: number) {
  const dx = at.beyondY === 0 ? at.beyondX : 0;
  const dy = -at.beyondY;
  const tipX = at.x;
  const tipY = at.y;
  ctx.beginPath();
  ctx.moveTo(tipX, tipY);
  ctx.lineTo(tipX - dx * radius * 1.8 - dy * radius, tipY - dy * radius * 1.8 - dx * radius);
  ctx.lineTo(tipX - dx * radius * 1.8 + dy * radius, tipY - dy * radius * 1.8 + dx * radius);
  ctx.fill();
}

function drawBest(ctx: CanvasRenderingContext2D, frame: Frame, palette: Palette, best: BestLine[]): LineEnd[] {
  const { xs, window, series } = frame;
  const body = bodyRect(frame);
  ctx.save();
  ctx.beginPath();
  ctx.rect(body.left, body.top - 2, body.right - body.left, body.bottom - body.top + 4);
  ctx.clip();
  ctx.lineJoin = 'round';
  const ends: LineEnd[] = [];
  for (const line of best) {
    const path = new Path2D();
    let y = NaN;
    for (const index of line.steps) {
      if (xs[index] > window.x.max) break;
      // The part to the left of the plot is not visible: limit it, because a canvas fails on very large numbers.
      const x = Math.max(project(xs[index], window.x, body.left, body.right), body.left - 1e4);
      const next = project(series.metric[index], window.y, body.bottom, body.top);
      if (Number.isNaN(y)) path.moveTo(x, next);
      else path.lineTo(x, y);
      path.lineTo(x, next);
      y = next;
    }
    if (Number.isNaN(y)) continue;
    path.lineTo(body.right, y);
    // An outline in the background's colour keeps the line readable over dense marks.
    ctx.lineWidth = 4;
    ctx.strokeStyle = palette.surface;
    ctx.globalAlpha = 0.7;
    ctx.stroke(path);
    ctx.globalAlpha = 1;
    ctx.lineWidth = 1.75;
    ctx.strokeStyle = palette.best;
    ctx.stroke(path);
    if (y > body.top && y < body.bottom) ends.push({ name: line.name, y });
  }
  ctx.restore();
  return ends;
}

/** Draws the names at the ends of the lines, moved apart where they would overlap. */
function drawLabels(ctx: CanvasRenderingContext2D, ends: LineEnd[], x: number, palette: Palette) {
  ctx.font = FONT;
  ctx.textAlign = 'right';
  ctx.textBaseline = 'bottom';
  ctx.lineWidth = 3;
  ctx.strokeStyle = palette.surface;
  ctx.fillStyle = palette.best;
  let lowest = Infinity;
  for (const { name, y } of ends.sort((a, b) => b.y - a.y)) {
    const at = Math.min(y - 3, lowest - 13);
    lowest = at;
    const short = name.length > 18 ? `${name.slice(0, 17)}…` : name;
    ctx.strokeText(short, x, at);
    ctx.fillText(short, x, at);
  }
}

function drawFrontier(ctx: CanvasRenderingContext2D, frame: Frame, palette: Palette) {
  const { series, mask } = frame;
  const toPixels = projector(frame);
  const out: Projection = { x: 0, y: 0, beyondX: 0, beyondY: 0 };
  let shown = 0;
  const [from, to] = visibleSpan(frame);
  for (let i = from; i < to; i++) shown += series.frontier[i] & mask[i];
  // The marks of a large frontier are small, so that they do not hide the others.
  const radius = shown > 300 ? Math.max(1.8, markRadius(countVisible(frame))) : Math.max(3, markRadius(countVisible(frame)) + 0.4);
  ctx.fillStyle = palette.frontier;
  ctx.strokeStyle = palette.surface;
  ctx.lineWidth = 1.5;
  for (let i = 0; i < series.length; i++) {
    if (series.frontier[i] === 0 || mask[i] === 0 || !toPixels(i, out)) continue;
    if (out.beyondX !== 0 || out.beyondY !== 0) {
      pointer(ctx, out, radius + 1);
      continue;
    }
    ctx.beginPath();
    ctx.arc(out.x, out.y, radius, 0, 2 * Math.PI);
    if (radius > 2.5) ctx.stroke();
    ctx.fill();
  }
}

/** Draws the highlight of the chosen record: its mark, its path to the root and its children. */
export function drawOverlay(ctx: CanvasRenderingContext2D, frame: Frame, palette: Palette, index: number) {
  const { series, mask } = frame;
  const toPixels = projector(frame);
  const out: Projection = { x: 0, y: 0, beyondX: 0, beyondY: 0 };
  const at = (i: number): Projection | null => (mask[i] === 1 && toPixels(i, out) ? { ...out } : null);
  const own = at(index);
  if (own === null) return;
  ctx.save();
  ctx.strokeStyle = palette.focus;
  ctx.fillStyle = palette.focus;
  ctx.lineWidth = 1;
  ctx.globalAlpha = 0.5;
  ctx.beginPath();
  for (const child of childrenOf(series, index)) {
    const pixel = at(child);
    if (pixel !== null) edge(ctx, own.x, own.y, pixel.x, pixel.y, true);
  }
  ctx.stroke();
  ctx.globalAlpha = 1;
  ctx.lineWidth = 1.75;
  const path = ancestry(series, index).map(at);
  ctx.beginPath();
  for (let k = 0; k + 1 < path.length; k++) {
    const child = path[k];
    const parent = path[k + 1];
    if (child && parent) edge(ctx, parent.x, parent.y, child.x, child.y, true);
  }
  ctx.stroke();
  for (const pixel of path) if (pixel) disc(ctx, pixel.x, pixel.y, 2.6);
  ctx.beginPath();
  ctx.arc(own.x, own.y, 8, 0, 2 * Math.PI);
  ctx.stroke();
  ctx.restore();
}
