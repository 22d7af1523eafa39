/** Keyboard navigation between records. */
import { childrenOf, nearerGoal, type Series } from './series';

/** The index to which a key moves from `from`, -1 if nothing is chosen. Null if the key has no effect. */
export function stepBy(key: string, series: Series, mask: Uint8Array, from: number, goal: string): number | null {
  switch (key) {
    case 'ArrowRight':
      return nextShown(mask, from, 1);
    case 'ArrowLeft':
      return nextShown(mask, from < 0 ? series.length : from, -1);
    case 'Home':
      return nextShown(mask, -1, 1);
    case 'End':
      return nextShown(mask, series.length, -1);
    case 'ArrowDown': {
      const parent = from < 0 ? -1 : series.parent[from];
      return parent >= 0 && mask[parent] === 1 ? parent : null;
    }
    case 'ArrowUp':
      return from < 0 ? nextShown(mask, series.length, -1) : bestChild(series, mask, from, goal);
    default:
      return null;
  }
}

function nextShown(mask: Uint8Array, from: number, by: 1 | -1): number | null {
  for (let i = from + by; i >= 0 && i < mask.length; i += by) if (mask[i] === 1) return i;
  return null;
}

/** The best of the shown children: keeps before discards before crashes, then by the metric. */
function bestChild(series: Series, mask: Uint8Array, parent: number, goal: string): number | null {
  let best: number | null = null;
  for (const child of childrenOf(series, parent)) {
    if (mask[child] === 0) continue;
    if (best === null || series.status[child] < series.status[best]) best = child;
    else if (
      series.status[child] === series.status[best] &&
      nearerGoal(series.metric[child], series.metric[best], goal)
    ) {
      best = child;
    }
  }
  return best;
}
