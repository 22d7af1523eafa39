/** Translates pointer, wheel and pinch events on an element into gestures of a chart. Knows nothing of the data. */

export type Gestures = {
  hover(x: number, y: number): void;
  leave(): void;
  tap(x: number, y: number, kind: string): void;
  pan(dx: number, dy: number): void;
  zoom(factorX: number, factorY: number, x: number, y: number): void;
  box(from: Point, to: Point, done: boolean): void;
  /** Whether the wheel zooms without Ctrl or ⌘. If not, it scrolls the page. */
  takesWheel(): boolean;
};

export type Point = { x: number; y: number };

/** Movement up to which a press of the pointer is a click, in CSS pixels. */
const CLICK_SLOP = 5;
/** Exponent of the zoom factor for each pixel of wheel movement. */
const WHEEL_SPEED = 0.0018;

/** Listens on `element` until the returned function is called. */
export function listen(element: HTMLElement, on: Gestures): () => void {
  const pointers = new Map<number, Point>();
  let start: Point | null = null;
  let mode: 'none' | 'pan' | 'box' = 'none';

  /** Ignore events on children of the element, such as a link in a card. */
  const isOurs = (event: Event) => event.target === element;

  const at = (event: MouseEvent): Point => {
    const bounds = element.getBoundingClientRect();
    return { x: event.clientX - bounds.left, y: event.clientY - bounds.top };
  };

  const down = (event: PointerEvent) => {
    if (event.button !== 0 || !isOurs(event)) return;
    pointers.set(event.pointerId, at(event));
    start = at(event);
    mode = event.shiftKey ? 'box' : 'none';
  };

  const move = (event: PointerEvent) => {
    const here = at(event);
    const before = pointers.get(event.pointerId);
    if (before === undefined) {
      if (isOurs(event)) on.hover(here.x, here.y);
      return;
    }
    pointers.set(event.pointerId, here);
    if (pointers.size >= 2) {
      pinch(event.pointerId, before, here);
      return;
    }
    if (start === null) return;
    const far = Math.hypot(here.x - start.x, here.y - start.y) > CLICK_SLOP;
    if (mode === 'none' && far) {
      mode = 'pan';
      element.setPointerCapture(event.pointerId);
    }
    if (mode === 'pan') on.pan(here.x - before.x, here.y - before.y);
    if (mode === 'box' && far) {
      element.setPointerCapture(event.pointerId);
      on.box(start, here, false);
    }
  };

  const pinch = (moved: number, before: Point, here: Point) => {
    const other = [...pointers].find(([id]) => id !== moved)?.[1];
    if (other === undefined) return;
    start = null;
    const was = Math.hypot(before.x - other.x, before.y - other.y);
    const is = Math.hypot(here.x - other.x, here.y - other.y);
    if (is < 10 || was < 10) return;
    on.zoom(was / is, was / is, (here.x + other.x) / 2, (here.y + other.y) / 2);
  };

  const up = (event: PointerEvent) => {
    if (!pointers.delete(event.pointerId) || start === null) return;
    const here = at(event);
    const far = Math.hypot(here.x - start.x, here.y - start.y) > CLICK_SLOP;
    if (mode === 'box' && far) on.box(start, here, true);
    else if (mode !== 'pan' && event.type === 'pointerup') on.tap(here.x, here.y, event.pointerType);
    start = null;
    mode = 'none';
  };

  const leave = () => {
    if (pointers.size === 0) on.leave();
  };

  const wheel = (event: WheelEvent) => {
    if (!(event.ctrlKey || event.metaKey || on.takesWheel())) return;
    event.preventDefault();
    const { x, y } = at(event);
    const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * 16 : event.deltaY || event.deltaX;
    const factor = Math.exp(Math.max(-300, Math.min(300, pixels)) * WHEEL_SPEED);
    on.zoom(event.shiftKey ? 1 : factor, event.shiftKey ? factor : 1, x, y);
  };

  const end = new AbortController();
  const options = { signal: end.signal };
  element.addEventListener('pointerdown', down, options);
  element.addEventListener('pointermove', move, options);
  element.addEventListener('pointerup', up, options);
  element.addEventListener('pointercancel', up, options);
  element.addEventListener('pointerleave', leave, options);
  element.addEventListener('wheel', wheel, { ...options, passive: false });
  return () => end.abort();
}
