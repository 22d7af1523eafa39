import { describe, expect, it } from 'vitest';
import { experimentHash, nodeHash, parseHash, searchHash, taskHash } from './route';

const ID = 'ab'.repeat(32);

describe('addresses', () => {
  it('hold the list of the frontier', () => {
    expect(parseHash(taskHash(ID, 'frontier', null, { list: 'claims' }))).toMatchObject({ view: 'frontier', list: 'claims' });
    expect(parseHash(`#/task/${ID}?list=nonsense`)).toMatchObject({ list: 'frontier' });
  });
  it('are parsed back to the route that made them', () => {
    expect(parseHash(taskHash(ID, 'experiments', 'RTX 4090', { order: 'metric', after: 'b00' }))).toEqual({
      page: 'task', id: ID, view: 'experiments', list: 'frontier', hardwareClass: 'RTX 4090', order: 'metric', cursor: { after: 'b00' },
    });
    expect(taskHash(ID)).toBe(`#/task/${ID}`);
    expect(parseHash(nodeHash(ID, { before: 'r1' }))).toEqual({ page: 'node', id: ID, cursor: { before: 'r1' } });
    expect(parseHash(searchHash('größere & kleinere #1', ID))).toEqual({ page: 'search', words: 'größere & kleinere #1', task: ID, cursor: {} });
    expect(parseHash(searchHash('a'))).toEqual({ page: 'search', words: 'a', task: null, cursor: {} });
    expect(parseHash(taskHash(ID))).toEqual({ page: 'task', id: ID, view: 'frontier', list: 'frontier', hardwareClass: null, order: 'time', cursor: {} });
    expect(parseHash(experimentHash(ID))).toEqual({ page: 'experiment', id: ID });
    for (const hash of ['', '#/']) expect(parseHash(hash)).toEqual({ page: 'tasks' });
    expect(parseHash('#/network')).toEqual({ page: 'network' });
  });
  it('without a page are unknown', () => {
    for (const hash of ['#/task', '#/task/../../x', '#/experiment/xyz', `#/what/${ID}`, `#/node/${ID}/more`, '#/search/x']) expect(parseHash(hash).page).toBe('unknown');
    expect(parseHash('#/search?q=a&task=%3Cscript%3E')).toMatchObject({ page: 'search', task: null });
  });
});
