/** The colours of the page: those that the system asks for, or those that the reader chose. */

export const THEMES = ['system', 'light', 'dark'] as const;
export type ThemeChoice = (typeof THEMES)[number];

const KEY = 'spore-theme';

function stored(): ThemeChoice {
  try {
    return THEMES.find((name) => name === localStorage.getItem(KEY)) ?? 'system';
  } catch {
    // Storage is forbidden: the choice lasts as long as the page.
    return 'system';
  }
}

class Theme {
  choice = $state<ThemeChoice>(stored());
  #systemDark = $state(false);
  shown = $derived(this.choice === 'system' ? (this.#systemDark ? 'dark' : 'light') : this.choice);

  /** Follows the system and shows the choice from now on. */
  start(): void {
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    const read = () => {
      this.#systemDark = scheme.matches;
      this.#show();
    };
    scheme.addEventListener('change', read);
    read();
  }

  choose(choice: ThemeChoice): void {
    this.choice = choice;
    this.#show();
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      return;
    }
  }

  #show(): void {
    document.documentElement.dataset.theme = this.shown;
  }
}

export const theme = new Theme();
