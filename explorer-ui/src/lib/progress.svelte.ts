/** The experiment that this node is running, from its progress events. */
import type { ExperimentProgress } from './api/types';

/** Losses kept for the sparkline. */
const MAX_LOSSES = 400;
/** Milliseconds without an event after which a run has ended or hangs: its bar disappears. */
const SILENCE_MS = 30_000;
/** Milliseconds for which the full bar of a finished run stays. */
const DONE_MS = 4_000;

export class Running {
  current = $state.raw<ExperimentProgress | null>(null);
  losses = $state.raw<number[]>([]);
  #timer: ReturnType<typeof setTimeout> | null = null;

  receive(event: ExperimentProgress): void {
    const last = this.current;
    const same =
      last !== null &&
      last.task_id === event.task_id &&
      last.purpose === event.purpose &&
      last.description === event.description &&
      event.step >= last.step;
    const before = same ? this.losses : [];
    const kept = before.length < MAX_LOSSES ? before : before.filter((_, i) => i % 2 === 1);
    this.losses = Number.isFinite(event.loss) ? [...kept, event.loss] : kept;
    this.current = event;
    if (this.#timer !== null) clearTimeout(this.#timer);
    const done = event.steps > 0 && event.step >= event.steps;
    this.#timer = setTimeout(() => this.clear(), done ? DONE_MS : SILENCE_MS);
  }

  clear(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.current = null;
    this.losses = [];
  }
}
