/** Saves what the page holds as a file of the reader. */

/** Time after which the memory behind a saved file is free again: the browser has read it by then. */
const KEPT_MS = 10_000;

export function saved(name: string, type: string, content: string | Blob): void {
  const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = document.createElement('a');
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), KEPT_MS);
}
