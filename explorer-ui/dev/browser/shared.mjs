// What readers compare, follow and take with them.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

/** The tests by their names, with what the harness gives them. */
export default ({ world, main, small, hostile, open, at, points }) => ({
  async 'pinned experiments are compared, and the address shows the same to others'() {
    const page = await open(`t/${small.id}?view=experiments`);
    await at(page, 'experiment-row').first().waitFor();
    for (const row of [0, 1, 2]) await at(page, 'experiment-row').nth(row).getByTestId('pin').click();
    const ids = await at(page, 'experiment-row').evaluateAll((rows) => rows.slice(0, 3).map((row) => row.dataset.id));
    await at(page, 'pins').getByRole('link', { name: 'Compare' }).click();
    await page.waitForURL((url) => url.pathname === '/compare' && url.searchParams.get('e') === ids.join(','));
    await at(page, 'compare-table').waitFor();
    const heads = () => page.locator('[data-testid="compare-table"] th[data-id]').evaluateAll((cells) => cells.map((cell) => cell.dataset.id));
    assert.deepEqual(await heads(), ids);
    const differing = await at(page, 'compare-row').count();
    await page.getByLabel('show what is the same too').check();
    await page.waitForURL(/show=all/);
    assert.ok((await at(page, 'compare-row').count()) > differing, 'nothing was the same');
    await page.getByRole('button', { name: 'Baseline' }).first().click();
    await page.waitForURL((url) => url.searchParams.get('e') === [ids[1], ids[0], ids[2]].join(','));
    await page.locator(`[data-testid="compare-table"] th[data-id]:nth-of-type(2)[data-id="${ids[1]}"]`).waitFor();
    // Somebody else, without the pins.
    const other = await open(`compare?e=${ids.join(',')}&from=2&to=3`);
    await at(other, 'compare-change').waitFor();
    assert.deepEqual(await other.locator('main select').evaluateAll((chosen) => chosen.map((one) => one.value)), ['1', '2']);
    await other.context().close();
    return page;
  },

  async 'two scripts are compared line by line'() {
    const child = small.records.find((record) => record.parent && record.status === 'keep');
    const page = await open(`compare?e=${child.parent},${child.id}`);
    await at(page, 'compare-table').waitFor();
    await page.locator('[data-testid="diff"] tr[data-kind="add"], main :text("same"), main :text("does not have both")').first().waitFor();
    return page;
  },

  async 'a comparison of nothing says what to do'() {
    const page = await open('compare');
    await page.getByText('Choose two to six experiments.').waitFor();
    return page;
  },

  async 'the leaders are ordered by any column, and the address holds the order'() {
    const page = await open('nodes');
    await at(page, 'leaders-table').waitFor();
    const numbers = (column) => page.locator(`[data-testid="leaders-table"] tbody td:nth-child(${column})`).evaluateAll((cells) => cells.map((cell) => Number(cell.innerText.replaceAll(',', ''))));
    const sorted = (values) => [...values].sort((a, b) => b - a);
    assert.deepEqual(await numbers(3), sorted(await numbers(3)));
    assert.ok((await numbers(3)).every((value) => value > 0), 'a node without confirmed work is listed');
    await page.getByRole('link', { name: 'Experiments' }).click();
    await page.waitForURL(/sort=experiments/);
    await page.locator('th[aria-sort="descending"]').getByText('Experiments').waitFor();
    assert.deepEqual(await numbers(5), sorted(await numbers(5)));
    return page;
  },

  async 'a whole table is saved, not the shown page alone'() {
    const page = await open(`t/${small.id}?view=experiments`);
    await at(page, 'experiment-row').first().waitFor();
    const save = async (kind) => {
      const [download] = await Promise.all([page.waitForEvent('download'), at(page, 'export').getByRole('button', { name: kind }).click()]);
      return readFileSync(await download.path(), 'utf8');
    };
    const rows = JSON.parse(await save('JSON'));
    assert.equal(rows.length, small.records.length);
    const lines = (await save('CSV')).trim().split('\r\n');
    assert.equal(lines.length, 1 + small.records.length);
    assert.ok(lines[0].split(',').includes('support.trusted_for'), lines[0]);
    return page;
  },

  async 'what builds on an experiment is a tree that opens'() {
    const children = (id) => small.records.filter((record) => record.parent === id);
    const root = small.records.find((record) => children(record.id).some((child) => children(child.id).length > 0));
    const page = await open(`e/${root.id}`);
    await at(page, 'descendants').waitFor();
    const closed = at(page, 'descendants').locator('button[aria-expanded="false"]').first();
    const before = await page.locator('[data-testid="descendants"] li').count();
    if (await closed.count()) {
      await closed.click();
      await page.waitForFunction((count) => document.querySelectorAll('[data-testid="descendants"] li, [data-testid="descendants"] .none').length > count, before);
    }
    return page;
  },

  async 'a prefix of an id becomes the whole id in the address'() {
    const { id } = small.records[5];
    const page = await open(`e/${id.slice(0, 16)}`);
    await page.waitForURL(`**/e/${id}`);
    return page;
  },

  async 'the node draws charts, badges and feeds, and hostile texts stay texts'() {
    const get = async (path, headers = {}) => {
      const answer = await fetch(`${world.url}${path}`, { headers });
      return { status: answer.status, type: answer.headers.get('content-type'), text: await answer.text() };
    };
    for (const id of [small.id, hostile.id]) {
      for (const [name, type] of [['chart.svg', 'image/svg+xml'], ['badge.svg', 'image/svg+xml'], ['feed.atom', 'application/atom+xml; charset=utf-8'], ['chart.png', 'image/png']]) {
        const { status, type: given, text } = await get(`/t/${id}/${name}`);
        assert.deepEqual([status, given], [200, type], name);
        if (name.endsWith('png')) continue;
        // A browser parses it as XML without an error, and finds no script in it.
        const page = await open('', { quiet: true });
        const found = await page.evaluate((xml) => {
          const parsed = new DOMParser().parseFromString(xml, 'text/xml');
          return [parsed.querySelectorAll('parsererror').length, parsed.querySelectorAll('script, foreignObject, image, a').length];
        }, text);
        await page.context().close();
        assert.deepEqual(found, [0, 0], `${name} of ${id}`);
      }
    }
    const page = await open(`t/${small.id}`);
    await at(page, 'share').locator('summary').click();
    await page.waitForFunction(() => document.querySelector('[data-testid="share"] img').naturalWidth > 50);
    return page;
  },

  async 'a profile shows all five fields and loads no picture'() {
    const page = await open(`n/${world.nodes[0]}`);
    await at(page, 'node-page').waitFor();
    const loaded = await page.evaluate(() => performance.getEntriesByType('resource').map((entry) => entry.name));
    assert.ok(loaded.every((name) => name.startsWith(main.url)), loaded.join());
    assert.equal(await page.locator('[data-testid="node-page"] img:not([src^="/"])').count(), 0);
    return page;
  },

  async 'large answers come compressed'() {
    const answer = await fetch(`${world.url}/api/v1/tasks/${small.id}/graph.bin`, { headers: { 'accept-encoding': 'gzip' } });
    assert.equal(answer.headers.get('content-encoding'), 'gzip');
    const page = await open(`t/${small.id}`);
    await points(page, small.records.length);
    return page;
  },
});
