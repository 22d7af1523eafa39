/**
 * Checks a signed object in this browser, without trust in the node that sent it: the id is the SHA-256 of the canonical
 * text, and the signature over that text is the signer's (Ed25519). `docs/protocol.md` describes the canonical text.
 */

export type Check = {
  result: 'right' | 'wrong' | 'unknown';
  text: string;
};

type Member = { key: string; value: string };

/** Reads JSON text and writes it in its canonical form: keys in order, no blanks, ASCII, numbers as they are spelled. */
class Canonical {
  #at = 0;

  constructor(private readonly text: string) {}

  /** The members of the object that the text is, each value in its canonical form. */
  members(): Member[] {
    const members = this.#object();
    this.#blank();
    if (this.#at !== this.text.length) throw new SyntaxError('more than one value');
    return members;
  }

  #blank(): void {
    while (/[ \t\n\r]/.test(this.text.charAt(this.#at))) this.#at++;
  }

  #take(mark: string): boolean {
    this.#blank();
    if (!this.text.startsWith(mark, this.#at)) return false;
    this.#at += mark.length;
    return true;
  }

  #expect(mark: string): void {
    if (!this.#take(mark)) throw new SyntaxError(`${mark} is missing`);
  }

  #object(): Member[] {
    this.#expect('{');
    const members: Member[] = [];
    if (this.#take('}')) return members;
    do {
      const key = this.#string();
      this.#expect(':');
      members.push({ key, value: this.#value() });
    } while (this.#take(','));
    this.#expect('}');
    return members;
  }

  #array(): string {
    this.#expect('[');
    const items: string[] = [];
    if (this.#take(']')) return '[]';
    do items.push(this.#value());
    while (this.#take(','));
    this.#expect(']');
    return `[${items.join(',')}]`;
  }

  #value(): string {
    this.#blank();
    const first = this.text.charAt(this.#at);
    if (first === '{') return written(this.#object());
    if (first === '[') return this.#array();
    if (first === '"') return quoted(this.#string());
    const word = /^(?:true|false|null|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/.exec(this.text.slice(this.#at, this.#at + 400))?.[0];
    if (word === undefined) throw new SyntaxError('no value');
    this.#at += word.length;
    return word;
  }

  #string(): string {
    this.#blank();
    const start = this.#at;
    if (this.text.charAt(start) !== '"') throw new SyntaxError('no text');
    for (this.#at++; this.text.charAt(this.#at) !== '"'; this.#at++) {
      if (this.#at >= this.text.length) throw new SyntaxError('a text does not end');
      if (this.text.charAt(this.#at) === '\\') this.#at++;
    }
    return JSON.parse(this.text.slice(start, ++this.#at)) as string;
  }
}

const byCodePoint = (a: Member, b: Member): number => {
  const [one, other] = [[...a.key], [...b.key]];
  for (let i = 0; i < Math.min(one.length, other.length); i++) {
    const difference = (one[i].codePointAt(0) ?? 0) - (other[i].codePointAt(0) ?? 0);
    if (difference !== 0) return difference;
  }
  return one.length - other.length;
};

const written = (members: Member[]): string => `{${members.sort(byCodePoint).map(({ key, value }) => `${quoted(key)}:${value}`).join(',')}}`;

/** A text as JSON of ASCII, as Python writes it. */
const quoted = (text: string): string =>
  JSON.stringify(text).replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** The text that was signed: the object without its id and signature. Records before version 2 do not sign their task. */
export function canonicalOf(signed: string): string {
  const members = new Canonical(signed).members();
  const signsTask = Number(members.find(({ key }) => key === 'version')?.value ?? 1) >= 2;
  return written(members.filter(({ key }) => key !== 'id' && key !== 'signature' && (key !== 'task_id' || signsTask)));
}

const bytesOf = (hex: string): Uint8Array<ArrayBuffer> | null =>
  /^(?:[0-9a-f]{2})+$/.test(hex) ? Uint8Array.from(hex.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16)) : null;

/** Checks the signed text of an object that should have this id. `signer` names the field with the signer's key. */
export async function check(signed: string, expectedId: string, signer = 'node_id'): Promise<Check> {
  const wrong = (text: string): Check => ({ result: 'wrong', text });
  const unknown = (text: string): Check => ({ result: 'unknown', text });
  const subtle = globalThis.crypto?.subtle;
  if (subtle === undefined) return unknown('This browser checks signatures only on pages of this machine or over https.');
  let canonical: Uint8Array<ArrayBuffer>;
  let given: Record<string, unknown>;
  try {
    canonical = new TextEncoder().encode(canonicalOf(signed));
    given = JSON.parse(signed) as Record<string, unknown>;
  } catch {
    return wrong('The signed object cannot be read.');
  }
  const hash = new Uint8Array(await subtle.digest('SHA-256', canonical));
  const id = Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('');
  if (id !== given.id || id !== expectedId) return wrong('The id is not the hash of the record.');
  const [key, signature] = [bytesOf(String(given[signer])), bytesOf(String(given.signature))];
  if (key?.length !== 32 || signature?.length !== 64) return wrong('The record has no signature.');
  try {
    const imported = await subtle.importKey('raw', key, 'Ed25519', false, ['verify']);
    const valid = await subtle.verify('Ed25519', imported, signature, canonical);
    return valid ? { result: 'right', text: 'The id and the signature are right, checked in this browser.' } : wrong('The signature is not the signer’s.');
  } catch {
    return unknown('The id is right. This browser cannot check Ed25519 signatures.');
  }
}
