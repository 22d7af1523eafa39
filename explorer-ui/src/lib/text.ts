/** Untrusted text: made safe to display, and never interpreted. */

// Characters that reorder, hide or imitate the text around them: controls, formats, fillers that show nothing, private and
// unassigned characters. With them, a name can look like another one, and code different from what it does.
const DECEPTIVE = /[\p{Cc}\p{Cf}\p{Cn}\p{Co}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]/gu;
/** Blanks of other widths, which look like a blank or like nothing. */
const BLANK = /[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]/g;
/** Parts of emoji, which show nothing else: a selector after a picture, and a joiner between two. */
const EMOJI_PARTS = /(?<=\p{Extended_Pictographic})\ufe0f|(?<=\p{Extended_Pictographic}\ufe0f?)\u200d(?=\p{Extended_Pictographic})/gu;
/** Marks that are written above each other: real writing needs at most this many on one letter. */
const MOST_MARKS = 3;
const PILED = /\p{M}{4,}/gu;
/** Letters of one word. */
const WORD = /[\p{L}\p{M}\p{N}_-]+/gu;
/** Letters of other scripts that imitate Latin ones within a word of Latin letters. */
const IMITATING = /\p{Script=Cyrillic}|\p{Script=Cherokee}|\p{Script=Armenian}|[\u0391\u0392\u0395-\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u03b9\u03bf]/gu;
const LATIN = /\p{Script=Latin}/u;

const spelled = (mark: string): string => `‹U+${(mark.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}›`;

/**
 * `text` with characters that deceive spelled out, as in `‹U+202E›`: control, direction, invisible and filler characters,
 * and letters of other scripts within Latin words. Tabs and newlines stay.
 */
export function visible(text: string): string {
  const kept = new Set<number>();
  for (const part of text.matchAll(EMOJI_PARTS)) kept.add(part.index);
  return text
    .replace(DECEPTIVE, (mark, at: number) => (mark === '\t' || mark === '\n' || mark === '\r' || kept.has(at) ? mark : spelled(mark)))
    .replace(BLANK, ' ')
    .replace(PILED, (marks) => `${[...marks].slice(0, MOST_MARKS).join('')}‹${[...marks].length - MOST_MARKS} more marks›`)
    .replace(WORD, (word) => (LATIN.test(word) ? word.replace(IMITATING, spelled) : word));
}

/** Characters of a name that are shown. */
const MAX_NAME = 60;

/** The first `most` characters, with an ellipsis where more follow. */
export function clipped(text: string, most: number): string {
  if (text.length <= most) return text;
  const cut = text.slice(0, most);
  // Do not leave half a character.
  return `${/[\ud800-\udbff]$/.test(cut) ? cut.slice(0, -1) : cut}…`;
}

/** An untrusted name as it is shown, in one line; empty where it shows nothing. */
export const nameOf = (name: string | null | undefined): string => clipped(visible(clipped(name ?? '', 4 * MAX_NAME)).replace(/\s+/g, ' ').trim(), MAX_NAME);

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
  return nameOf(node.display_name) || shortId(node.node_id);
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
