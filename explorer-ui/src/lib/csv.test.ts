import { expect, test } from 'vitest';
import { idOf, seriesOf } from './chart/testing';
import { cell, csvOf } from './csv';

test('records of the mask become lines, and no text becomes a formula', () => {
  const series = seriesOf({
    ids: ['a', 'b', 'c'].map(idOf), parents: [-1, 0, 0], timestamps: [1, 2, 3], metrics: [1.5, -2, 0], statuses: [0, 1, 2],
    classes: [0, 1, 1], class_names: ['=1+1', 'a,"b"'], verified: [true, false, false], frontier: [true, false, false],
  });
  const lines = csvOf(series, Uint8Array.from([1, 1, 1])).split('\r\n');
  expect(lines[1]).toBe(`${idOf('a')},,1,1.5,keep,'=1+1,1,1,0,0,0`);
  expect(lines[2]).toBe(`${idOf('b')},${idOf('a')},2,-2,discard,"a,""b""",0,0,0,0,0`);
  expect(lines[3]).toContain(',3,,crash,');
  expect(csvOf(series, Uint8Array.from([0, 1, 0])).trim().split('\r\n').length).toBe(2);
  expect(cell('@x')).toBe("'@x");
});
