/**
 * JSON as text. A signed object is shown and copied with its numbers as they were spelled, because the signature
 * covers the spelling: `1.0` is not `1`. Parsing into JavaScript numbers would lose it.
 */

/** Index just past the string that starts at `start`. */
function stringEnd(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    if (text[i] === '\\') i++;
    else if (text[i] === '"') return i + 1;
  }
  return text.length;
}

/** Index just past the value that starts at `start`. */
function valueEnd(text: string, start: number): number {
  let depth = 0;
  for (let i = start; i < text.length; i++) {
    const c = text[i];
    if (c === '"') {
      i = stringEnd(text, i) - 1;
      if (depth === 0) return i + 1;
    } else if (c === '{' || c === '[') {
      depth++;
    } else if (c === '}' || c === ']') {
      if (depth === 0) return i;
      depth--;
      if (depth === 0) return i + 1;
    } else if (depth === 0 && c === ',') {
      return i;
    }
  }
  return text.length;
}

/** The text of the member `key` of the object in `text` (valid JSON), or null where it has none. */
export function rawMember(text: string, key: string): string | null {
  let i = text.indexOf('{') + 1;
  while (i > 0 && i < text.length) {
    const keyStart = text.indexOf('"', i);
    if (keyStart < 0) return null;
    const keyEnd = stringEnd(text, keyStart);
    const valueStart = text.indexOf(':', keyEnd) + 1;
    if (valueStart === 0) return null;
    const end = valueEnd(text, valueStart);
    if (JSON.parse(text.slice(keyStart, keyEnd)) === key) return text.slice(valueStart, end).trim();
    i = end + 1;
  }
  return null;
}

/** `text` (valid JSON) over several lines, two blanks a level; strings and numbers are copied as they are. */
export function prettyJson(text: string): string {
  const out: string[] = [];
  let indent = 0;
  const newline = () => out.push('\n', '  '.repeat(indent));
  for (let i = 0; i < text.length; i++) {
    const c = text.charAt(i);
    if (c === '"') {
      const end = stringEnd(text, i);
      out.push(text.slice(i, end));
      i = end - 1;
    } else if (c === '{' || c === '[') {
      const close = c === '{' ? '}' : ']';
      let rest = 0;
      while (/\s/.test(text.charAt(i + 1 + rest))) rest++;
      if (text[i + 1 + rest] === close) {
        out.push(c, close);
        i += 1 + rest;
        continue;
      }
      out.push(c);
      indent++;
      newline();
    } else if (c === '}' || c === ']') {
      indent--;
      newline();
      out.push(c);
    } else if (c === ',') {
      out.push(c);
      newline();
    } else if (c === ':') {
      out.push(': ');
    } else if (!/\s/.test(c)) {
      out.push(c);
    }
  }
  return out.join('');
}
