/**
 * Where the page is: the address, the places that Back returns to, and the focus after a change of the page.
 *
 * Links are ordinary links. A click on one to this page is turned into a change of the address without a new load.
 */
import { fromHash } from './route';

/** What an entry of the browser's history remembers when it is left. */
type Left = { scroll: number; focus: string | null };

/** Longest wait until a page that was returned to is as high as it was, and until a new one has its heading. */
const PATIENCE_MS = 5_000;

class Navigation {
  path = $state(location.pathname);
  query = $state(location.search);

  /** Turns an old address in the fragment into a path, and takes over scrolling and links. Returns how to stop. */
  start(): () => void {
    this.#adoptHash();
    history.scrollRestoration = 'manual';
    const onpopstate = (event: PopStateEvent) => {
      const page = this.path;
      if (location.hash.startsWith('#/')) this.#adoptHash();
      this.#read();
      const left = event.state as Left | null;
      if (left !== null) void this.#restore(left);
      else if (this.path !== page) void this.#arrive();
    };
    const onscroll = () => this.#remember();
    addEventListener('popstate', onpopstate);
    addEventListener('scrollend', onscroll);
    document.addEventListener('click', this.#onclick);
    // A reload stays where it was.
    const left = history.state as Left | null;
    if (left !== null) void this.#restore(left);
    return () => {
      removeEventListener('popstate', onpopstate);
      removeEventListener('scrollend', onscroll);
      document.removeEventListener('click', this.#onclick);
    };
  }

  /** Goes to an address of this page. Another page begins at its top, with the focus on its heading. */
  go(address: string): void {
    this.#remember();
    const page = this.path;
    history.pushState(null, '', address);
    this.#read();
    if (this.path !== page) void this.#arrive();
  }

  /** Changes the address of the entry that is shown, for the state of a view that is no place to return to. */
  replace(address: string): void {
    history.replaceState(history.state, '', address);
    this.#read();
  }

  /** Names the shown page by another address, which leads to the same page. */
  settle(path: string): void {
    history.replaceState(history.state, '', `${path}${location.search}`);
  }

  #adoptHash(): void {
    const address = fromHash(location.hash);
    if (address === null) return;
    history.replaceState(null, '', address);
    this.#read();
  }

  #read(): void {
    this.path = location.pathname;
    this.query = location.search;
  }

  #remember(): void {
    const at = document.activeElement;
    const focus = at instanceof HTMLAnchorElement ? at.getAttribute('href') : null;
    const left: Left = { scroll: scrollY, focus };
    history.replaceState(left, '');
  }

  #onclick = (event: MouseEvent) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest('a') : null;
    const href = link?.getAttribute('href');
    if (!link || !href?.startsWith('/') || href.startsWith('//') || href.startsWith('/api/') || /\.(atom|svg|png)(\?|$)/.test(href) || link.target !== '' || link.hasAttribute('download')) return;
    event.preventDefault();
    this.go(href);
  };

  /** Shows a new page from its top, and moves the focus to its heading as soon as there is one. */
  async #arrive(): Promise<void> {
    const { path } = this;
    scrollTo({ top: 0 });
    const before = document.querySelector('h1');
    await this.#until(() => {
      const heading = document.querySelector<HTMLElement>('main h1');
      if (heading === null || heading === before) return false;
      // Whoever has moved the focus meanwhile keeps it.
      if (document.activeElement === document.body || document.activeElement instanceof HTMLAnchorElement) heading.focus({ preventScroll: true });
      return true;
    }, () => this.path === path);
  }

  /** Returns to where an entry was left: its scroll, and the link that had the focus. Rows may come later than the page. */
  async #restore(left: Left): Promise<void> {
    const { path } = this;
    let scrolled = false;
    // Whoever moves meanwhile is not moved back.
    const stop = new AbortController();
    for (const event of ['wheel', 'keydown', 'pointerdown'] as const) addEventListener(event, () => stop.abort(), { signal: stop.signal, passive: true });
    const link = () => (left.focus === null ? null : document.querySelector<HTMLElement>(`main a[href="${CSS.escape(left.focus)}"]`));
    const here = () => this.path === path && !stop.signal.aborted;
    await this.#until(() => {
      if (!scrolled && document.documentElement.scrollHeight - innerHeight >= left.scroll) {
        scrollTo({ top: left.scroll });
        scrolled = true;
      }
      const at = left.focus === null ? document.querySelector<HTMLElement>('main h1') : link();
      if (!scrolled || at === null) return false;
      at.focus({ preventScroll: true });
      // Rows that came later have moved what was scrolled to.
      scrollTo({ top: left.scroll });
      return true;
    }, here);
    if (here() && document.activeElement === document.body) document.querySelector<HTMLElement>('main h1')?.focus({ preventScroll: true });
    stop.abort();
  }

  /** Tries once a frame until it succeeds, the page is another one, or the wait is over. */
  async #until(done: () => boolean, here: () => boolean): Promise<void> {
    const end = performance.now() + PATIENCE_MS;
    do {
      await new Promise(requestAnimationFrame);
    } while (here() && !done() && performance.now() < end);
  }
}

export const navigation = new Navigation();
