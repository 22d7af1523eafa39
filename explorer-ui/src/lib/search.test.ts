import { expect, test } from 'vitest';
import { begins } from './search';

test('tasks and nodes are found by beginnings of words and of ids', () => {
  const task = { id: 'ab12'.padEnd(64, '0'), name: 'bytes-20s learning (größer)' };
  for (const words of ['byt', 'LEARN 20', 'größ', 'ab12', 'AB120']) expect(begins(task, words), words).toBe(true);
  for (const words of ['ytes', 'learning slow', 'ab1', '', '-']) expect(begins(task, words), words).toBe(false);
});
