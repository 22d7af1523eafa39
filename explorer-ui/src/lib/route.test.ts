import { describe, expect, it } from 'vitest';
import { ALL_SHOWN, comparePath, experimentPath, leadersPath, fromHash, nodePath, parseAddress, searchPath, taskPath } from './route';

const ID = 'ab'.repeat(32);

/** The route of an address as the page makes it. */
const parsed = (address: string) => {
  const url = new URL(address, 'http://node');
  return parseAddress(url.pathname, url.search);
};

describe('addresses', () => {
  it('hold the list of the frontier', () => {
    expect(parsed(taskPath(ID, { list: 'claims' }))).toMatchObject({ view: 'frontier', list: 'claims' });
    expect(parsed(`/t/${ID}?list=nonsense`)).toMatchObject({ list: 'frontier' });
  });
  it('hold all that a task shows', () => {
    const show = { hardwareClass: 'RTX 4090', statuses: [true, false, false], axis: 'order', robust: false, window: { x: { min: 1757000000.5, max: 1757003600 }, y: { min: -0.5, max: 1.0625 } } } as const;
    const address = taskPath(ID, { view: 'experiments', show, order: 'metric', after: 'b00' });
    expect(parsed(address)).toEqual({ page: 'task', id: ID, view: 'experiments', list: 'frontier', show, order: 'metric', sort: 'seen', cursor: { after: 'b00' } });
    expect(taskPath(ID, { show: ALL_SHOWN })).toBe(`/t/${ID}`);
  });
  it('with a window that is none show the default one', () => {
    for (const window of ['', '1,2,3', '2,1,0,1', 'a,b,c,d', '0,1,0,Infinity']) expect(parsed(`/t/${ID}?window=${window}`)).toMatchObject({ show: { window: null } });
  });
  it('are parsed back to the route that made them', () => {
    expect(parsed(nodePath(ID, { before: 'r1' }))).toEqual({ page: 'node', id: ID, cursor: { before: 'r1' } });
    expect(parsed(searchPath('größere & kleinere #1', ID))).toEqual({ page: 'search', words: 'größere & kleinere #1', task: ID, cursor: {} });
    expect(parsed(searchPath('a'))).toEqual({ page: 'search', words: 'a', task: null, cursor: {} });
    expect(parsed(taskPath(ID))).toEqual({ page: 'task', id: ID, view: 'frontier', list: 'frontier', show: ALL_SHOWN, order: 'time', sort: 'seen', cursor: {} });
    expect(parsed(experimentPath(ID))).toEqual({ page: 'experiment', id: ID });
    expect(parsed('/')).toEqual({ page: 'tasks' });
    expect(parsed('/network')).toEqual({ page: 'network' });
  });
  it('take ids in upper case, and the names of tasks', () => {
    expect(parsed(`/e/${ID.toUpperCase()}`)).toEqual({ page: 'experiment', id: ID });
    expect(parsed(taskPath('my task/1'))).toMatchObject({ page: 'task', id: 'my task/1' });
  });
  it('hold a comparison: its experiments, its two scripts, and what is shown', () => {
    const ids = ['ab', 'cd', 'ef'].map((digits) => digits.repeat(32));
    const compared = { from: 2, to: 0, whole: true };
    expect(parsed(comparePath(ids, compared))).toEqual({ page: 'compare', ids, compared });
    expect(parsed(comparePath(ids))).toEqual({ page: 'compare', ids, compared: { from: 0, to: 1, whole: false } });
    expect(parsed(`/compare?e=${ids[0]},${ids[0]},nonsense,${ids[1].toUpperCase()}&from=9&to=x`)).toMatchObject({ ids: ids.slice(0, 2), compared: { from: 0, to: 1 } });
    const many = Array.from({ length: 9 }, (_, i) => String(i).repeat(64));
    expect(parsed(comparePath(many))).toMatchObject({ ids: many.slice(0, 6) });
  });
  it('hold the order of nodes', () => {
    expect(parsed(leadersPath(ID, 'reputation'))).toEqual({ page: 'nodes', task: ID, sort: 'reputation' });
    expect(parsed('/nodes?sort=nonsense&task=x')).toEqual({ page: 'nodes', task: null, sort: 'confirmed' });
    expect(parsed(taskPath(ID, { view: 'nodes', sort: 'experiments' }))).toMatchObject({ view: 'nodes', sort: 'experiments' });
  });
  it('without a page are unknown', () => {
    for (const path of ['/t', '/t/a/b', '/e/xyz', `/what/${ID}`, `/n/${ID}/more`, '/search/x', '/e/%ff', '/rss']) expect(parsed(path).page, path).toBe('unknown');
    expect(parsed('/search?q=a&task=%3Cscript%3E')).toMatchObject({ page: 'search', task: null });
  });
  it('in the fragment lead to the path that replaced them', () => {
    expect(fromHash(`#/task/${ID}?class=CPU`)).toBe(`/t/${ID}?class=CPU`);
    expect(fromHash(`#/experiment/${ID}`)).toBe(`/e/${ID}`);
    expect(fromHash('#/search?q=a')).toBe('/search?q=a');
    expect(fromHash('#/')).toBe('/');
    for (const hash of ['', '#content', '#//evil.example']) expect(fromHash(hash)).toBeNull();
  });
});
