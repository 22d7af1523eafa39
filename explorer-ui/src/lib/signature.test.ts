import { expect, test } from 'vitest';
import file from '../../../tests/vectors/objects.json';
import { canonicalOf, check } from './signature';

type Case = { name: string; kind: string; json: string; canonical: string | null; id: string | null; valid: boolean; why: string };
const { cases }: { cases: Case[] } = file;
const records = cases.filter((one) => one.kind === 'experiment');

test('canonical text is that of the reference implementation', () => {
  const valid = records.filter((one) => one.valid);
  expect(valid.length).toBeGreaterThan(3);
  for (const one of valid) expect(canonicalOf(one.json), one.name).toBe(one.canonical);
});

test('records are right or wrong as the reference implementation says', async () => {
  // What fields a record may have is the node's to check, and not what id and signature say.
  const signed = records.filter((one) => one.valid || /no longer matches|signature|signed by another|not a key/.test(one.why));
  expect(signed.length).toBeGreaterThan(12);
  for (const one of signed) expect((await check(one.json, one.id ?? '')).result, one.name).toBe(one.valid ? 'right' : 'wrong');
});

test('a record under another id, or with a changed number, is wrong', async () => {
  const one = records.find((record) => record.valid);
  if (one === undefined) throw new Error('no record');
  expect((await check(one.json, 'ab'.repeat(32))).result).toBe('wrong');
  expect((await check(one.json.replace(/"timestamp": (\d)/, '"timestamp": 9$1'), one.id ?? '')).result).toBe('wrong');
  expect((await check('{', one.id ?? '')).result).toBe('wrong');
});
