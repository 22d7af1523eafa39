/** Untrusted text: made safe to display, and never interpreted. */

// Characters that reorder or hide the text around them. With them, code can look different from what it does.
const DECEPTIVE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]/g;

/** `text` with control and direction characters spelled out, as in `‹U+202E›`. Tabs and newlines stay. */
export function visible(text: string): string {
  return text.replace(
    DECEPTIVE,
    (mark) => `‹U+${mark.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}›`,
  );
}

/** The address if it may be a link, which is for http and https only; otherwise null. */
export function linkable(address: string | null | undefined): string | null {
  if (!address) return null;
  try {
    const url = new URL(address.trim());
    return url.protocol === 'https:' || url.protocol === 'http:' ? url.href : null;
  } catch {
    return null;
  }
}

/** The first characters of an id. A short id stays whole. */
export function shortId(id: string, length = 8): string {
  return id.length > length + 1 ? id.slice(0, length) : id;
}

/** The label of a node: its display name, or its shortened id. */
export function nodeLabel(node: { node_id: string; display_name?: string | null }): string {
  const name = visible(node.display_name ?? '').trim();
  return name === '' ? shortId(node.node_id) : name;
}

/** Copies to the clipboard and returns whether it worked. Pages over plain http lack the clipboard API. */
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

/** Splits `text` into pieces. A piece is `found` if it is one of the searched words, in upper or lower case. */
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
