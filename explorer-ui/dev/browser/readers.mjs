// What readers rely on: truth, addresses, names, narrow screens, barriers.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

/** The tests by their names, with what the harness gives them. */
export default ({ world, main, small, large, hostile, empty, open, at, points, painted, publish, task, AXE }) => ({
  async 'narrow screens need no horizontal scrolling'() {
    const page = await open('', { width: 380, height: 760 });
    for (const hash of ['', `t/${small.id}`, `t/${small.id}?view=nodes`, `t/${small.id}?view=experiments`, `e/${small.records[30].id}`, `t/${hostile.id}`, 'search?q=weight', 'network']) {
      await page.goto(`${main.url}/${hash}`);
      await page.locator('h1').waitFor();
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(width <= 380, `${hash} is ${width} wide`);
    }
    return page;
  },

  async 'refused results are struck out on a narrow screen too, and say so'() {
    const refused = small.records.filter((record) => record.verdict === 'rejected' || !record.comparable);
    const page = await open(`t/${small.id}?view=experiments&order=metric`, { width: 390, height: 760 });
    const row = page.locator(refused.map(({ id }) => `[data-testid="experiment-row"][data-id="${id}"] s`).join(','));
    await row.first().waitFor();
    assert.match(await row.first().innerText(), /refused/);
    await page.goto(`${main.url}/e/${refused[0].id}`);
    await at(page, 'experiment-page').locator('header s').first().waitFor();
    assert.equal(await page.locator('header s').evaluate((mark) => getComputedStyle(mark).textDecorationLine), 'line-through');
    return page;
  },

  async 'the head names the best of each class, and of the class that is chosen alone'() {
    const page = await open(`t/${small.id}`);
    const filled = Object.entries(small.frontiers).filter(([, ids]) => ids.length > 0).map(([name]) => name);
    await at(page, 'bests').locator('[data-class]').nth(filled.length - 1).waitFor();
    for (const name of filled) {
      const link = at(page, 'bests').locator(`[data-class="${name}"] a`);
      assert.equal(await link.getAttribute('href'), `/e/${small.frontiers[name][0]}`, name);
    }
    await page.getByLabel('Hardware class').selectOption('CPU');
    await page.waitForFunction(() => document.querySelectorAll('[data-testid="bests"] [data-class]').length === 1);
    assert.equal(await at(page, 'bests').locator('a').getAttribute('href'), `/e/${small.frontiers.CPU[0]}`);
    return page;
  },

  async 'impossible values scale no chart, not even with all outliers'() {
    const page = await open(`t/${small.id}?range=all`);
    await at(page, 'impossible').waitFor();
    await page.waitForFunction(() => document.querySelector('[data-testid="chart"] canvas').width > 300);
    assert.ok((await painted(page)) > 0.005, 'the canvas is empty');
    return page;
  },

  async 'filters bind the chart, the tables and the activity, and stand in the address'() {
    const expected = small.records.filter((record) => record.status !== 'discard' && record.class === 'H100');
    const page = await open(`t/${small.id}?view=experiments&class=H100&hide=discard`);
    await points(page, expected.length);
    await at(page, 'experiment-row').first().waitFor();
    const rows = await at(page, 'experiment-row').evaluateAll((found) => found.map((row) => row.dataset.id));
    assert.deepEqual(rows, expected.map(({ id }) => id).reverse().slice(0, 50));
    await page.locator('button[data-status="crash"]').click();
    await points(page, expected.filter(({ status }) => status === 'keep').length);
    assert.match(page.url(), /hide=discard%2Ccrash/);
    await page.reload();
    await points(page, expected.filter(({ status }) => status === 'keep').length);
    assert.equal(await at(page, 'activity').locator('li.discard').count(), 0);
    return page;
  },

  async 'the window and the axis of the chart stand in the address'() {
    const page = await open(`t/${small.id}`);
    await points(page, small.records.length);
    await page.getByRole('button', { name: 'Order' }).click();
    await page.getByRole('button', { name: 'Zoom in' }).click();
    await page.waitForURL(/x=order.*window=/);
    await page.reload();
    await page.locator('[data-testid="chart"][data-moved="true"]').waitFor();
    assert.equal(await page.getByRole('button', { name: 'Order' }).getAttribute('aria-pressed'), 'true');
    return page;
  },

  async 'back returns to the place, and a new page has the focus on its heading'() {
    const page = await open(`t/${small.id}?view=experiments`, { height: 600 });
    await at(page, 'experiment-row').nth(20).waitFor();
    const link = at(page, 'experiment-row').nth(20).locator('.row-link');
    const href = await link.getAttribute('href');
    await link.scrollIntoViewIfNeeded();
    await page.waitForTimeout(200);
    const before = await page.evaluate(() => scrollY);
    assert.ok(before > 200);
    await link.focus();
    await page.keyboard.press('Enter');
    await at(page, 'experiment-page').waitFor();
    await page.waitForFunction(() => document.activeElement?.tagName === 'H1');
    assert.equal(await page.evaluate(() => scrollY), 0);
    await page.goBack();
    await page.waitForFunction((wanted) => Math.abs(scrollY - wanted) < 60, before);
    await page.waitForFunction((wanted) => document.activeElement?.getAttribute('href') === wanted, href);
    return page;
  },

  async 'a node names the task and the metric of each experiment'() {
    const page = await open(`n/${world.nodes[0]}`);
    await at(page, 'experiment-row').first().waitFor();
    await page.getByRole('columnheader', { name: 'Task' }).waitFor();
    await at(page, 'experiment-row').first().locator('a[href^="/t/"]').waitFor();
    await at(page, 'experiment-row').first().getByText('val_bpb').waitFor();
    return page;
  },

  async 'eight pages of one browser share one event stream, and a hidden page has none'() {
    const first = await open('');
    const context = first.context();
    const opened = [];
    const watch = (page) => page.on('request', (request) => request.url().includes('/api/v1/events') && opened.push(page));
    const pages = [first];
    await first.locator('[data-testid="connection"][data-state="live"]').first().waitFor();
    for (let i = 1; i < 8; i++) {
      const page = await context.newPage();
      watch(page);
      await page.goto(`${main.url}/t/${small.id}`);
      await page.locator('[data-testid="connection"][data-state="live"]').first().waitFor();
      pages.push(page);
    }
    assert.equal(opened.length, 0, 'another page opened a stream');
    const record = await publish();
    for (const page of pages.slice(1)) await at(page, 'activity-row').first().getByText(record.description).waitFor();
    await first.close();
    await pages[1].waitForTimeout(1_000);
    assert.equal(opened.length, 1, 'one of the others goes on');
    const next = await publish();
    for (const page of pages.slice(1)) await at(page, 'activity-row').first().getByText(next.description).waitFor();
    pages[1].errors = first.errors;
    return pages[1];
  },

  async 'a stream that says nothing is not called live'() {
    const page = await open('');
    await page.locator('[data-testid="connection"][data-state="live"]').first().waitFor();
    // The network stops delivering without closing anything.
    await page.evaluate(() => (performance.now = ((real) => () => real() + 40_000)(performance.now.bind(performance))));
    await page.route('**/api/v1/events*', () => undefined);
    await page.locator('[data-testid="connection"][data-state="retrying"]').first().waitFor();
    return page;
  },

  async 'names that hide characters are spelled out, and each has a short id beside it'() {
    const page = await open(`t/${hostile.id}?view=nodes`);
    await at(page, 'node-row').first().waitFor();
    for (const row of await at(page, 'node-row').all()) {
      const link = row.locator('a').first();
      const id = (await link.getAttribute('href')).slice(3);
      assert.ok((await link.boundingBox()).width > 8, 'a link is empty');
      assert.ok((await row.innerText()).includes(id.slice(0, 6)), 'no id beside a name');
    }
    return page;
  },

  async 'long texts stand in a box of bounded height'() {
    const page = await open(`t/${hostile.id}`);
    await page.locator('h1').waitFor();
    assert.ok((await page.locator('main header').first().boundingBox()).height < 600);
    return page;
  },

  async 'the browser checks the signature, and calls a changed record wrong'() {
    const { id } = small.records[30];
    const page = await open(`e/${id}`);
    await page.locator('[data-testid="signature"][data-result="right"]').waitFor();
    await page.route(`**/api/v1/experiments/${id}`, async (route) => {
      const response = await route.fetch();
      const body = (await response.text()).replace(/("signed":\{.*?"num_steps":)(\d)/, '$11$2');
      await route.fulfill({ response, body });
    });
    await page.reload();
    await page.locator('[data-testid="signature"][data-result="wrong"]').waitFor();
    return page;
  },

  async 'a script that is not here is asked for, and appears when it comes'() {
    const { id } = small.records[30];
    const page = await open('', {});
    let here = false;
    await page.route(`**/api/v1/experiments/${id}`, async (route) => {
      const response = await route.fetch();
      const detail = await response.json();
      await route.fulfill({ response, json: here ? { ...detail, code: '# it came' } : { ...detail, code: null } });
    });
    await page.goto(`${main.url}/e/${id}`);
    await page.getByText(/asks its 1 peer for it|no peer to ask/).waitFor();
    here = true;
    await at(page, 'code').getByText('# it came').waitFor();
    return page;
  },

  async 'the search finds tasks and nodes by beginnings of words'() {
    const page = await open('');
    await at(page, 'search').fill('tiny-st');
    await page.locator(`[data-testid="search-place"][data-id="${large.id}"]`).waitFor();
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await page.waitForURL(`**/t/${large.id}`);
    await at(page, 'search').fill('aman');
    await page.locator(`[data-testid="search-place"][data-id="${world.nodes[0]}"]`).click();
    await at(page, 'node-page').waitFor();
    return page;
  },

  async 'records are saved as a table'() {
    const page = await open(`t/${small.id}?class=CPU`);
    await points(page, small.records.filter((record) => record.class === 'CPU').length);
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('group', { name: 'Save', exact: true }).getByRole('button', { name: 'CSV' }).click()]);
    const lines = readFileSync(await download.path(), 'utf8').trim().split('\r\n');
    assert.equal(lines.length, 1 + small.records.filter((record) => record.class === 'CPU').length);
    return page;
  },

  async 'the reader chooses the colours, and words explain themselves'() {
    const page = await open(`t/${small.id}`, { colorScheme: 'light' });
    await at(page, 'theme').selectOption('dark');
    await page.locator('html[data-theme="dark"]').waitFor();
    await page.reload();
    await page.locator('html[data-theme="dark"]').waitFor();
    await page.getByRole('button', { name: 'On the frontier' }).click();
    await at(page, 'glossary').filter({ visible: true }).getByText('no confirmed child').waitFor();
    return page;
  },

  async 'an address in the fragment leads to its path, and an id in upper case to its page'() {
    const page = await open(`#/task/${small.id}?class=CPU`);
    await page.waitForURL(`**/t/${small.id}?class=CPU`);
    await page.goto(`${main.url}/e/${small.records[3].id.toUpperCase()}`);
    await page.locator(`[data-testid="experiment-page"][data-id="${small.records[3].id}"]`).waitFor();
    return page;
  },

  async 'addresses have a title and tags of their own, and others are 404'() {
    const get = async (path) => {
      const answer = await fetch(`${world.url}${path}`);
      return { status: answer.status, text: await answer.text() };
    };
    const task = await get(`/t/${small.id}`);
    assert.equal(task.status, 200);
    assert.match(task.text, /<title>bytes-20s · Spore<\/title>/);
    assert.match(task.text, /property="og:description" content="Best confirmed val_bpb/);
    assert.ok(!(await get(`/t/${hostile.id}`)).text.includes('<script>window'));
    assert.match((await get(`/e/${small.records[3].id.slice(0, 12)}`)).text, new RegExp(`rel="canonical" href="/e/${small.records[3].id}"`));
    assert.equal((await get(`/n/${world.nodes[0]}`)).status, 200);
    for (const path of [`/t/${'0'.repeat(64)}`, `/e/${'0'.repeat(64)}`, '/rss', '/metrics', '/task/abc']) assert.equal((await get(path)).status, 404, path);
    return open('');
  },

  async 'axe finds nothing on any page, in light and dark, on wide and narrow screens'() {
    const paths = ['', `t/${small.id}`, `t/${small.id}?view=experiments`, `t/${small.id}?view=nodes`, `t/${hostile.id}`, `e/${small.records[30].id}`, `n/${world.nodes[0]}`, 'search?q=weight', 'network', 'nodes', `compare?e=${small.records.slice(28, 31).map(({ id }) => id).join(',')}`, 'nowhere'];
    let page;
    for (const [width, colorScheme] of [[1280, 'light'], [390, 'dark']]) {
      await page?.context().close();
      page = await open('', { width, colorScheme, reducedMotion: 'reduce', quiet: true });
      for (const path of paths) {
        await page.goto(`${main.url}/${path}`);
        await page.locator('main h1').waitFor();
        await page.waitForLoadState('networkidle').catch(() => undefined);
        await page.waitForFunction(() => [...document.querySelectorAll('main [role=status]')].every((one) => !one.innerText.startsWith('Loading')));
        await page.evaluate(AXE);
        const { violations } = await page.evaluate(() => globalThis.axe.run(document));
        assert.deepEqual(violations.map(({ id, nodes }) => `${path} ${width} ${id}: ${nodes[0].html}`), []);
      }
    }
    return page;
  },
});
