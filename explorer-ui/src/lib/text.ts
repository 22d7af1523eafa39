/** Text that strangers wrote: made safe to look at, never interpreted. */

// Marks that reorder or hide what surrounds them: with them, code can be made to read otherwise than it runs.
const DECEPTIVE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]/g;

/** `text` with control and direction marks spelled out, as in `‹U+202E›`. Tabs and newlines stay. */
export function visible(text: string): string {
  return text.replace(
    DECEPTIVE,
    (mark) => `‹U+${mark.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}›`,
  );
}

/** The address as it may be linked: http and https only; null for anything else. */
export function linkable(address: string | null | undefined): string | null {
  if (!address) return null;
  try {
    const url = new URL(address.trim());
    return url.protocol === 'https:' || url.protocol === 'http:' ? url.href : null;
  } catch {
    return null;
  }
}

/** The first characters of an id; whole where it is short. */
export function shortId(id: string, length = 8): string {
  return id.length > length + 1 ? id.slice(0, length) : id;
}

/** What to call a node: its display name, or its shortened id. */
export function nodeLabel(node: { node_id: string; display_name?: string | null }): string {
  const name = visible(node.display_name ?? '').trim();
  return name === '' ? shortId(node.node_id) : name;
}

/** Copies to the clipboard, also on plain-http pages where the clipboard API is absent. True when it worked. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement('textarea');
    area.value = text;
    area.className = 'off-screen';
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}

/** `text` in pieces, with those told apart that a search for `words` found: whole words, in any case. */
export function marked(text: string, words: string): { piece: string; found: boolean }[] {
  const wanted = new Set(words.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []);
  const pieces = text.split(/([\p{L}\p{N}]+)/u).filter((piece) => piece !== '');
  const parts: { piece: string; found: boolean }[] = [];
  for (const piece of pieces) {
    const found = wanted.has(piece.toLowerCase());
    const last = parts.at(-1);
    if (last && last.found === found) last.piece += piece;
    else parts.push({ piece, found });
  }
  return parts;
}
