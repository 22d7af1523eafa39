import { expect, test } from 'vitest';
import { Sequence } from './sequence';

test('a gap is noticed once, when two statuses in a row are ahead of the changes', () => {
  const sequence = new Sequence();
  expect(sequence.lacks(5)).toBe(false);
  sequence.start(10);
  expect(sequence.lacks(10)).toBe(false);
  expect(sequence.lacks(12)).toBe(false);
  sequence.saw(12);
  expect(sequence.lacks(12)).toBe(false);
  expect(sequence.lacks(15)).toBe(false);
  expect(sequence.lacks(15)).toBe(true);
  expect(sequence.lacks(15)).toBe(false);
  expect(sequence.newest).toBe(15);
});
