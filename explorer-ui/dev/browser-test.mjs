// Drives the built page in Chromium against the made-up API: npm run build && npm run test:browser
// CHROMIUM names another browser binary.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { serve } from './server.mjs';

// Without any of these, the browser that playwright has installed for itself.
const EXECUTABLE = [process.env.CHROMIUM, process.env.SPORE_CHROMIUM, '/usr/bin/chromium', '/usr/bin/google-chrome'].find((path) => path && existsSync(path));
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'];

if (!existsSync(new URL('../dist/index.html', import.meta.url))) throw new Error('There is no dist/ yet. Build it first: npm run build');

const fixture = await serve();
const { world } = fixture;
const [small, large, , , hostile, empty] = world.tasks;
// `-- WORD` runs only the tests whose names hold it.
const chosen = process.argv[2] ?? '';
const browser = await chromium.launch({ executablePath: EXECUTABLE, args: FLAGS });

/** Opens a page; anything it complains of fails the test that opened it. */
async function open(hash, { width = 1280, height = 900, quiet = false, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, permissions: ['clipboard-read', 'clipboard-write'], ...options });
  const page = await context.newPage();
  page.complaints = [];
  if (!quiet) page.on('console', (message) => ['error', 'warning'].includes(message.type()) && page.complaints.push(message.text()));
  page.on('pageerror', (error) => page.complaints.push(error.message));
  await page.goto(`${fixture.url}/${hash}`);
  return page;
}

const at = (page, id) => page.getByTestId(id);
/** The records of the chart that the canvas holds, by its attribute. */
const points = (page, count) => page.locator(`[data-testid="chart"][data-points="${count}"]`).waitFor();

/** Share of the chart's base canvas that is painted. */
const painted = (page) =>
  page.evaluate(() => {
    const canvas = document.querySelector('[data-testid="chart"] canvas');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let pixels = 0;
    for (let i = 3; i < data.length; i += 4) if (data[i] > 0) pixels++;
    return pixels / (canvas.width * canvas.height);
  });

const tests = {
  async 'the index lists every task and leads to them'() {
    const page = await open('');
    await at(page, 'task-row').first().waitFor();
    assert.equal(await at(page, 'task-row').count(), world.tasks.length);
    await page.locator('[data-testid="task-row"] svg').first().waitFor();
    await page.getByRole('link', { name: small.name, exact: true }).click();
    await at(page, 'chart').waitFor();
    assert.match(page.url(), new RegExp(`#/task/${small.id}$`));
    return page;
  },

  async 'the chart shows all records, filters, and zooms'() {
    const page = await open(`#/task/${small.id}`);
    await points(page, small.records.length);
    await page.waitForFunction(() => document.querySelector('[data-testid="chart"] canvas').width > 300);
    assert.ok((await painted(page)) > 0.005, 'the canvas is empty');
    await page.locator('button[data-status="discard"]').click();
    await points(page, small.records.filter((record) => record.status !== 'discard').length);
    await page.getByLabel('Hardware class').selectOption('CPU');
    await points(page, small.records.filter((record) => record.status !== 'discard' && record.hardwareClass === 'CPU').length);
    assert.equal(await at(page, 'frontier-table').count(), 1);
    await page.getByRole('button', { name: 'Zoom in' }).click();
    await page.locator('[data-testid="chart"][data-moved="true"]').waitFor();
    await page.getByRole('button', { name: 'Reset' }).click();
    await page.locator('[data-testid="chart"][data-moved="false"]').waitFor();
    return page;
  },

  async 'the keyboard walks the chart and opens an experiment'() {
    const page = await open(`#/task/${small.id}`);
    await points(page, small.records.length);
    await at(page, 'chart').focus();
    await page.keyboard.press('End');
    const last = small.records.at(-1);
    await page.locator(`[data-testid="chart"][data-chosen="${last.id}"]`).waitFor();
    await page.keyboard.press('ArrowDown');
    await page.locator(`[data-testid="chart"][data-chosen="${last.parent.id}"]`).waitFor();
    await at(page, 'hover-card').getByText(last.parent.description).waitFor();
    await page.keyboard.press('Enter');
    await page.locator(`[data-testid="experiment-page"][data-id="${last.parent.id}"]`).waitFor();
    return page;
  },

  async 'the pointer finds a mark and a click opens it'() {
    const page = await open(`#/task/${small.id}`);
    await points(page, small.records.length);
    await at(page, 'chart').focus();
    await page.keyboard.press('Home');
    await page.keyboard.press('ArrowRight');
    const place = await page.locator('.card-place').evaluate((card) => ({ x: parseFloat(card.style.left), y: parseFloat(card.style.top) }));
    await page.keyboard.press('Escape');
    const box = await at(page, 'chart').boundingBox();
    await page.mouse.move(box.x + place.x, box.y + place.y);
    const chosen = await page.locator('[data-testid="chart"][data-chosen]').getAttribute('data-chosen');
    await page.mouse.click(box.x + place.x, box.y + place.y);
    await page.locator(`[data-testid="experiment-page"][data-id="${chosen}"]`).waitFor();
    return page;
  },

  async 'a tap shows the card, and its link opens the experiment'() {
    const page = await open(`#/task/${small.id}`, { width: 390, hasTouch: true, isMobile: true });
    await points(page, small.records.length);
    await at(page, 'chart').focus();
    await page.keyboard.press('Home');
    await page.keyboard.press('ArrowRight');
    const area = await at(page, 'chart').boundingBox();
    // On narrow screens the card does not stand at its mark: the ring around the mark tells where it is.
    const mark = await page.locator('.card-place').evaluate((card) => ({ x: parseFloat(card.style.left), y: parseFloat(card.style.top) }));
    await page.keyboard.press('Escape');
    await page.touchscreen.tap(area.x + mark.x, area.y + mark.y);
    await at(page, 'hover-card').getByRole('link', { name: 'Open the experiment' }).tap();
    await at(page, 'experiment-page').waitFor();
    return page;
  },

  async 'each hardware class has its frontier, best first'() {
    const page = await open(`#/task/${small.id}`);
    await at(page, 'frontier-row').first().waitFor();
    const classes = new Set(small.records.map((record) => record.hardwareClass));
    assert.equal(await at(page, 'frontier-table').count(), classes.size);
    const ids = await page.locator('section[data-class="CPU"] [data-testid="frontier-row"]').evaluateAll((rows) => rows.map((row) => row.dataset.id));
    const expected = world.frontier(small, 'CPU').map(({ record }) => record.id);
    assert.deepEqual(ids, expected.slice(0, ids.length));
    if (expected.length > ids.length) {
      const section = page.locator('section[data-class="CPU"]');
      await section.getByRole('button', { name: /Show more/ }).click();
      await section.getByTestId('frontier-row').nth(ids.length).waitFor();
      const more = await section.getByTestId('frontier-row').evaluateAll((rows) => rows.map((row) => row.dataset.id));
      assert.deepEqual(more, expected.slice(0, more.length));
    }
    return page;
  },

  async 'experiments are turned page by page, both ways, and the address holds the place'() {
    const page = await open(`#/task/${small.id}?view=experiments`);
    const rows = () => at(page, 'experiment-row').evaluateAll((found) => found.map((row) => row.dataset.id));
    const shows = (id) => page.locator(`[data-testid="experiment-row"][data-id="${id}"]`).waitFor();
    const newest = world.recent(small).map(({ record }) => record.id);
    await shows(newest[0]);
    assert.deepEqual(await rows(), newest.slice(0, 50));
    await page.getByRole('link', { name: 'Older' }).click();
    await shows(newest[50]);
    assert.deepEqual(await rows(), newest.slice(50, 100));
    assert.match(page.url(), /after=/);
    await page.reload();
    await shows(newest[50]);
    await page.getByRole('link', { name: 'Older' }).click();
    await shows(newest[100]);
    await page.getByRole('link', { name: 'Newer' }).click();
    await shows(newest[50]);
    await page.goBack();
    await shows(newest[100]);
    await page.getByRole('link', { name: 'Newer' }).click();
    await shows(newest[50]);
    await page.getByRole('link', { name: 'Newer' }).click();
    await shows(newest[0]);
    assert.deepEqual(await rows(), newest.slice(0, 50));
    assert.equal(await page.getByRole('link', { name: 'Newer' }).count(), 0);
    await page.getByRole('link', { name: 'Best first' }).click();
    const best = world.best(small).map(({ record }) => record.id);
    await shows(best[0]);
    assert.deepEqual(await rows(), best.slice(0, 50));
    return page;
  },

  async 'the search finds by words, with the keyboard alone'() {
    const page = await open(`#/task/${small.id}`);
    await points(page, small.records.length);
    await page.keyboard.press('/');
    const expected = world.search('weight decay', small).map(({ record }) => record.id);
    assert.ok(expected.length > 8);
    await page.keyboard.type('weight DECAY');
    await page.locator(`[data-testid="search-row"][data-id="${expected[0]}"]`).waitFor();
    assert.deepEqual(await at(page, 'search-row').evaluateAll((rows) => rows.map((row) => row.dataset.id)), expected.slice(0, 8));
    assert.equal(await page.locator('[data-testid="search-row"] mark').first().innerText(), 'Weight');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('ArrowDown');
    await page.locator(`[data-testid="search-row"][data-id="${expected[1]}"][aria-selected="true"]`).waitFor();
    await page.keyboard.press('Enter');
    await page.locator(`[data-testid="experiment-page"][data-id="${expected[1]}"]`).waitFor();
    assert.equal(await at(page, 'search-panel').count(), 0);
    return page;
  },

  async 'all that was found is a page of its own, of one task or of all'() {
    const page = await open(`#/task/${small.id}`);
    await at(page, 'search').fill('weight decay');
    await at(page, 'search').press('Enter');
    const shows = (id) => page.locator(`[data-testid="experiment-row"][data-id="${id}"]`).waitFor();
    const here = world.search('weight decay', small).map(({ record }) => record.id);
    await shows(here[0]);
    assert.match(page.url(), new RegExp(`#/search\\?q=weight\\+decay&task=${small.id}$`));
    await at(page, 'everywhere').click();
    const everywhere = world.search('weight decay', null).map(({ record }) => record.id);
    assert.notEqual(here[0], everywhere[0]);
    await shows(everywhere[0]);
    await page.getByRole('link', { name: 'Older' }).click();
    await shows(everywhere[50]);
    await at(page, 'search').fill('nothing of the kind');
    await at(page, 'search').press('Enter');
    await page.getByText('No experiment has all of these words.').waitFor();
    return page;
  },

  async 'the first digits of an id find it, on a narrow screen too'() {
    const page = await open('', { width: 390, height: 760 });
    await at(page, 'task-row').first().waitFor();
    await page.getByRole('button', { name: 'Search experiments' }).click();
    const { id } = small.records[17];
    await at(page, 'search').fill(id.slice(0, 9).toUpperCase());
    await page.locator(`[data-testid="search-row"][data-id="${id}"]`).click();
    await page.locator(`[data-testid="experiment-page"][data-id="${id}"]`).waitFor();
    await at(page, 'search').waitFor({ state: 'hidden' });
    return page;
  },

  async 'a search that fails says so'() {
    const page = await open(`#/task/${small.id}`, { quiet: true });
    await points(page, small.records.length);
    fixture.fail(true);
    await at(page, 'search').fill('weight');
    await at(page, 'search-panel').getByText('Is the node running?').waitFor();
    await at(page, 'search').press('Enter');
    await page.locator('main').getByText('Is the node running?').waitFor();
    fixture.fail(false);
    await page.getByRole('button', { name: 'Try again' }).click();
    await at(page, 'experiment-row').first().waitFor();
    return page;
  },

  async 'activity and progress arrive by themselves'() {
    const page = await open(`#/task/${small.id}`);
    await points(page, small.records.length);
    await page.locator('[data-testid="connection"][data-state="live"]').first().waitFor();
    fixture.emit('progress', { task_id: small.id, purpose: 'research', step: 30, steps: 120, loss: 2.5, elapsed_seconds: 5, description: 'A made-up run' });
    await at(page, 'progress').getByText('step 30 of 120').waitFor();
    const row = world.publish(small);
    fixture.emit('activity', row);
    await at(page, 'activity-row').first().getByText(row.text).waitFor();
    await points(page, small.records.length);
    return page;
  },

  async 'a stopped node is told, and met again'() {
    const page = await open(`#/task/${small.id}`, { quiet: true });
    await page.locator('[data-testid="connection"][data-state="live"]').first().waitFor();
    await points(page, small.records.length);
    fixture.fail(true);
    await page.locator('[data-testid="connection"][data-state="retrying"]').first().waitFor();
    world.publish(small);
    fixture.fail(false);
    await page.locator('[data-testid="connection"][data-state="live"]').first().waitFor();
    await points(page, small.records.length);
    fixture.fail(true);
    await page.getByRole('link', { name: 'Tasks', exact: true }).click();
    await page.getByText('Is the node running?').waitFor();
    fixture.fail(false);
    await page.getByRole('button', { name: 'Try again' }).click();
    await at(page, 'task-row').first().waitFor();
    return page;
  },

  async 'an experiment shows what it changed and why it may be believed'() {
    const record = small.records.find((r) => r.verdict === 'verified' && r.index % 5 !== 4 && r.parent?.parent);
    const page = await open(`#/experiment/${record.id}`);
    await at(page, 'experiment-page').waitFor();
    assert.equal(await page.locator('[data-testid="diff"] tr[data-kind="add"]').count(), 3);
    assert.match(await at(page, 'diff').innerText(), /\+rate = tune/);
    assert.match(await at(page, 'code').innerText(), /def forward\(tokens\):/);
    assert.equal(await at(page, 'evidence-row').count(), 3);
    await at(page, 'evidence').getByText('ignored: another hardware class').waitFor();
    assert.equal(await page.locator('[data-testid="lineage"] li').count(), Math.min(record.depth + 1, 11));
    return page;
  },

  async 'the signed record is copied as it was signed'() {
    const page = await open(`#/experiment/${small.records[0].id}`);
    await at(page, 'signed-json').locator('summary').click();
    await page.getByRole('button', { name: 'Copy JSON' }).click();
    await page.getByRole('button', { name: 'Copied' }).waitFor();
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    assert.match(copied, /"val_bpb": 2\.0,/);
    assert.equal(JSON.parse(copied).id, small.records[0].id);
    return page;
  },

  async 'strangers’ words stay words'() {
    const page = await open(`#/task/${hostile.id}`);
    await points(page, hostile.records.length);
    await at(page, 'activity-row').first().getByText('<script>').first().waitFor();
    await page.goto(`${fixture.url}/#/node/${world.nodes[9].node_id}`);
    await at(page, 'node-page').getByText('javascript:').waitFor();
    assert.equal(await page.locator('a[href^="javascript"]').count(), 0);
    await page.goto(`${fixture.url}/#/node/${world.nodes[0].node_id}`);
    assert.match(await page.locator('a[href="https://example.org/amanita"]').getAttribute('rel'), /noopener/);
    assert.equal(await page.evaluate(() => window.__hostile), undefined);
    return page;
  },

  async 'fifty thousand records can be moved about'() {
    const page = await open(`#/task/${large.id}`);
    await points(page, large.records.length);
    const box = await at(page, 'chart').boundingBox();
    const middle = { x: box.x + box.width / 2, y: box.y + box.height / 2 };
    await page.mouse.move(middle.x, middle.y);
    await page.evaluate(() => {
      const frames = (window.__frames = []);
      let last = performance.now();
      const tick = (now) => {
        frames.push(now - last);
        last = now;
        requestAnimationFrame(tick);
      };
      requestAnimationFrame(tick);
    });
    await page.mouse.down();
    for (let i = 0; i < 40; i++) await page.mouse.move(middle.x - i * 6, middle.y + i);
    await page.mouse.up();
    await page.locator('[data-testid="chart"][data-moved="true"]').waitFor();
    const frames = (await page.evaluate(() => window.__frames)).sort((a, b) => a - b);
    // Told, not judged: how fast this machine is, is not the page's to promise.
    console.log(`     frame while moving: median ${frames[frames.length >> 1].toFixed(0)} ms, longest ${frames.at(-1).toFixed(0)} ms`);
    assert.ok((await painted(page)) > 0.02);
    return page;
  },

  async 'empty and unknown say so'() {
    const page = await open(`#/task/${empty.id}`, { quiet: true });
    await page.getByText('This task has no experiments yet.').waitFor();
    await page.goto(`${fixture.url}/#/experiment/${'0'.repeat(64)}`);
    await page.getByText('This node knows nothing of that id.').waitFor();
    await page.goto(`${fixture.url}/#/nowhere`);
    await page.getByText('There is no such page.').waitFor();
    return page;
  },

  async 'narrow screens need no sideways scrolling'() {
    const page = await open('', { width: 380, height: 760 });
    for (const hash of ['#/', `#/task/${small.id}`, `#/task/${small.id}?view=nodes`, `#/task/${small.id}?view=experiments`, `#/experiment/${small.records[30].id}`, `#/task/${hostile.id}`, '#/search?q=weight', '#/network']) {
      await page.goto(`${fixture.url}/${hash}`);
      await page.locator('h1').waitFor();
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(width <= 380, `${hash} is ${width} wide`);
    }
    return page;
  },
};

let failed = 0;
for (const [name, test] of Object.entries(tests).filter(([name]) => name.includes(chosen))) {
  let page;
  try {
    page = await test();
    assert.deepEqual(page.complaints, []);
    console.log(`ok   ${name}`);
  } catch (error) {
    failed++;
    console.error(`FAIL ${name}\n${error.stack}`);
  }
  await page?.context().close();
}
await browser.close();
await fixture.close();
process.exit(failed > 0 ? 1 : 0);
