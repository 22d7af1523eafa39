import { describe, expect, it } from 'vitest';
import { diffSize, parseDiff } from './diff';
import { highlight } from './highlight';
import { prettyJson, rawMember } from './json';
import { clipped, linkable, marked, nameOf, nodeLabel, shortId, visible } from './text';

describe('untrusted text', () => {
  it('has hiding and reordering characters spelled out', () => {
    expect(visible('a\u202eb\u0000c')).toBe('a‹U+202E›b‹U+0000›c');
    expect(visible('tab\tnewline\nünïcode 菌')).toBe('tab\tnewline\nünïcode 菌');
  });
  it('has characters spelled out that show nothing or imitate others', () => {
    const marks = ['\u200b', '\u200c', '\u200d', '\u00ad', '\ufe0f', '\u{e0100}', '\u034f', '\u115f', '\u180e', '\u2800', '\u3164', '\ufff0', '\u{e0041}', '\u2060', '\ufeff'];
    for (const mark of marks) expect(visible(`nano${mark}gpt`), mark.codePointAt(0)?.toString(16)).toMatch(/^nano‹U\+[0-9A-F]{4,6}›gpt$/);
    expect(visible('n\u0430nogpt')).toBe('n‹U+0430›nogpt');
    expect(visible('\u041dogpt-tr\u0430in')).toBe('‹U+041D›ogpt-tr‹U+0430›in');
    for (const honest of ['наногпт', 'μP', 'β2 = 0.95', 'e\u0301té', 'Δloss', '👩‍🔬 ❤️', '菌 v2', 'नमस्ते']) expect(visible(honest)).toBe(honest);
    expect(visible(`a${'\u0301'.repeat(50)}`)).toBe(`a${'\u0301'.repeat(3)}‹47 more marks›`);
  });
  it('is empty as a name where it shows nothing', () => {
    for (const empty of ['', ' ', '\u00a0', '\u3000\u2003', null, undefined]) expect(nameOf(empty)).toBe('');
    expect(nameOf('\u2800')).toBe('‹U+2800›');
    expect(nameOf('x'.repeat(9_000)).length).toBeLessThan(70);
    expect(clipped('ab\u{1f600}c', 3)).toBe('ab…');
  });
  it('becomes a link for http and https only', () => {
    expect(linkable('https://example.org/a')).toBe('https://example.org/a');
    for (const bad of ['javascript:alert(1)', ' JaVaScRiPt:alert(1)', 'data:text/html,x', 'example.org', '', null]) {
      expect(linkable(bad)).toBeNull();
    }
  });
  it('labels nodes by their name or id', () => {
    const node_id = 'ab'.repeat(32);
    expect(nodeLabel({ node_id, display_name: ' morel ' })).toBe('morel');
    expect(nodeLabel({ node_id, display_name: '  ' })).toBe('abababab');
    expect(shortId('abc')).toBe('abc');
  });
});

describe('JSON as text', () => {
  const answer = '{"experiment":{"signed":1},"a":"}\\"{","signed" : {"v":1.0,"e":1e-05,"s":"{\\n\\"","n":[],"o":{ },"l":[1,2]},"z":null}';
  it('keeps the spelling of numbers in a member', () => {
    expect(rawMember(answer, 'signed')).toBe('{"v":1.0,"e":1e-05,"s":"{\\n\\"","n":[],"o":{ },"l":[1,2]}');
    expect(rawMember(answer, 'z')).toBe('null');
    expect(rawMember(answer, 'v')).toBeNull();
    expect(rawMember('{}', 'a')).toBeNull();
  });
  it('is formatted over lines without a change of its content', () => {
    const pretty = prettyJson(rawMember(answer, 'signed') ?? '');
    expect(pretty).toBe('{\n  "v": 1.0,\n  "e": 1e-05,\n  "s": "{\\n\\"",\n  "n": [],\n  "o": {},\n  "l": [\n    1,\n    2\n  ]\n}');
  });
});

describe('parseDiff', () => {
  const diff = '--- a\n+++ b\n@@ -3,3 +3,3 @@\n same\n--- removed\n+++ added\n same\n\\ No newline at end of file\n';
  it('numbers both sides', () => {
    const lines = parseDiff(diff);
    expect(lines.map((line) => line.kind)).toEqual(['file', 'file', 'hunk', 'context', 'remove', 'add', 'context', 'note']);
    expect(lines[4]).toEqual({ kind: 'remove', text: '-- removed', before: 4, after: null });
    expect(lines[5]).toEqual({ kind: 'add', text: '++ added', before: null, after: 4 });
    expect(lines[6]).toEqual({ kind: 'context', text: 'same', before: 5, after: 5 });
    expect(diffSize(lines)).toEqual({ added: 1, removed: 1 });
  });
  it('keeps lines that are no diff', () => {
    expect(parseDiff('not a diff\n+x')).toEqual([
      { kind: 'note', text: 'not a diff', before: null, after: null },
      { kind: 'note', text: '+x', before: null, after: null },
    ]);
    expect(parseDiff('')).toEqual([]);
  });
});

describe('highlight', () => {
  it('keeps every character', () => {
    const lines = ['def f(x): # note', '    """two', 'lines""" + "a\\"b" + 1.5e-3', "'open", '', 'x'.repeat(3_000)];
    expect(highlight(lines).map((tokens) => tokens.map((token) => token.text).join(''))).toEqual(lines);
  });
  it('distinguishes kinds of tokens', () => {
    const [first] = highlight(['def f(x): return 1 # note']);
    expect(first.filter((token) => token.kind !== 'plain').map((token) => `${token.kind} ${token.text}`)).toEqual([
      'keyword def', 'call f', 'keyword return', 'number 1', 'comment # note',
    ]);
    expect(highlight(['"""a', 'b"""'])[1]).toEqual([{ kind: 'string', text: 'b"""' }]);
  });
});

describe('marked', () => {
  it('marks whole words, in any case and script', () => {
    expect(marked('Größere Rate, lr=0.3 and rates', 'RATE größere 3')).toEqual([
      { piece: 'Größere', found: true },
      { piece: ' ', found: false },
      { piece: 'Rate', found: true },
      { piece: ', lr=0.', found: false },
      { piece: '3', found: true },
      { piece: ' and rates', found: false },
    ]);
  });
  it('marks nothing without words', () => {
    expect(marked('a (b)', '.*+[')).toEqual([{ piece: 'a (b)', found: false }]);
    expect(marked('', 'a')).toEqual([]);
  });
});
