/** The experiments that the reader has pinned to compare them: the first is the baseline. They last as long as the browser's tab. */
import { MOST_COMPARED } from './compare';

const KEY = 'spore-pins';
const ID = /^[0-9a-f]{16,64}$/;

function stored(): string[] {
  try {
    const ids: unknown = JSON.parse(sessionStorage.getItem(KEY) ?? '[]');
    return Array.isArray(ids) ? ids.filter((id): id is string => typeof id === 'string' && ID.test(id)).slice(0, MOST_COMPARED) : [];
  } catch {
    // Storage is forbidden or was changed by hand: the pins last as long as the page.
    return [];
  }
}

class Pins {
  ids = $state.raw<readonly string[]>(stored());

  has(id: string): boolean {
    return this.ids.includes(id);
  }

  get full(): boolean {
    return this.ids.length >= MOST_COMPARED;
  }

  toggle(id: string): void {
    this.set(this.has(id) ? this.ids.filter((one) => one !== id) : [...this.ids, id].slice(0, MOST_COMPARED));
  }

  set(ids: readonly string[]): void {
    this.ids = ids;
    try {
      sessionStorage.setItem(KEY, JSON.stringify(ids));
    } catch {
      return;
    }
  }
}

export const pins = new Pins();
