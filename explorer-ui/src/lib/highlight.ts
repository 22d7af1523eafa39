/** Syntax colours for Starlark and Python, from the shape of each token. Nothing is parsed. */

export type Token = { kind: 'plain' | 'comment' | 'string' | 'number' | 'keyword' | 'call'; text: string };

const KEYWORDS = new Set(
  ('and as assert async await break class continue def del elif else except finally for from global if import in is ' +
    'lambda load nonlocal not or pass raise return try while with yield True False None').split(' '),
);

const TOKEN = /(#.*)|("""|''')|("(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?)|(\b\d[\w.]*(?:(?<=[eE])[+-]\d+)?)|([A-Za-z_]\w*)/g;

// Nobody reads a longer line of code, and colouring it takes long.
const MAX_LINE = 2_000;

/** The tokens of each line; strings in triple quotes may span lines. */
export function highlight(lines: string[]): Token[][] {
  let open: string | null = null;
  return lines.map((line) => {
    if (line.length > MAX_LINE) return [{ kind: 'plain', text: line }];
    const tokens: Token[] = [];
    let at = 0;
    const push = (kind: Token['kind'], end: number) => {
      if (end > at) tokens.push({ kind, text: line.slice(at, end) });
      at = end;
    };
    while (at < line.length) {
      if (open !== null) {
        const close: number = line.indexOf(open, at);
        push('string', close < 0 ? line.length : close + 3);
        if (close >= 0) open = null;
        continue;
      }
      TOKEN.lastIndex = at;
      const match = TOKEN.exec(line);
      if (!match) {
        push('plain', line.length);
        break;
      }
      push('plain', match.index);
      const end = match.index + match[0].length;
      if (match[1] !== undefined) push('comment', end);
      else if (match[2] !== undefined) {
        open = match[2];
        push('string', end);
      } else if (match[3] !== undefined) push('string', end);
      else if (match[4] !== undefined) push('number', end);
      else push(KEYWORDS.has(match[0]) ? 'keyword' : line[end] === '(' ? 'call' : 'plain', end);
    }
    return tokens;
  });
}
