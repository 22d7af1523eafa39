// What the pages show and do.
import assert from 'node:assert/strict';

/** The tests by their names, with what the harness gives them. */
export default ({ world, main, small, large, hostile, empty, open, at, points, painted, publish, task, pageOn }) => ({
  async 'the index lists every task and links to it'() {
    const page = await open('');
    await at(page, 'task-row').first().waitFor();
    const ids = await at(page, 'task-row').evaluateAll((rows) => rows.map((row) => row.dataset.id));
    for (const { id, name } of world.tasks) assert.ok(ids.includes(id), `${name} is not listed`);
    assert.equal(ids.length, world.tasks.length + world.built_in_tasks);
    await page.locator('[data-testid="task-row"] svg').first().waitFor();
    await page.getByRole('link', { name: small.name, exact: true }).click();
    await at(page, 'chart').waitFor();
    assert.match(page.url(), new RegExp(`t/${small.id}$`));
    return page;
  },

  async 'the chart shows all records, and can be filtered and zoomed'() {
    const page = await open(`t/${small.id}`);
    await points(page, small.records.length);
    await page.waitForFunction(() => document.querySelector('[data-testid="chart"] canvas').width > 300);
    assert.ok((await painted(page)) > 0.005, 'the canvas is empty');
    await page.locator('button[data-status="discard"]').click();
    await points(page, small.records.filter((record) => record.status !== 'discard').length);
    await page.getByLabel('Hardware class').selectOption('CPU');
    await points(page, small.records.filter((record) => record.status !== 'discard' && record.class === 'CPU').length);
    assert.equal(await at(page, 'frontier-table').count(), 1);
    await page.getByRole('button', { name: 'Zoom in' }).click();
    await page.locator('[data-testid="chart"][data-moved="true"]').waitFor();
    await page.getByRole('button', { name: 'Reset' }).click();
    await page.locator('[data-testid="chart"][data-moved="false"]').waitFor();
    return page;
  },

  async 'the keyboard walks the chart and opens an experiment'() {
    const page = await open(`t/${small.id}`);
    await points(page, small.records.length);
    await at(page, 'chart').focus();
    await page.keyboard.press('End');
    const last = small.records.at(-1);
    await page.locator(`[data-testid="chart"][data-chosen="${last.id.slice(0, 16)}"]`).waitFor();
    await page.keyboard.press('ArrowDown');
    const parent = small.records.find((record) => record.id === last.parent);
    await page.locator(`[data-testid="chart"][data-chosen="${parent.id.slice(0, 16)}"]`).waitFor();
    await at(page, 'hover-card').getByText(parent.description).waitFor();
    await page.keyboard.press('Enter');
    await page.locator(`[data-testid="experiment-page"][data-id="${parent.id}"]`).waitFor();
    return page;
  },

  async 'the pointer finds a mark and a click opens it'() {
    const page = await open(`t/${small.id}`);
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
    await page.locator(`[data-testid="experiment-page"][data-id^="${chosen}"]`).waitFor();
    return page;
  },

  async 'a tap shows the card, and its link opens the experiment'() {
    const page = await open(`t/${small.id}`, { width: 390, hasTouch: true, isMobile: true });
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
    const page = await open(`t/${small.id}`);
    await at(page, 'frontier-row').first().waitFor();
    const filled = Object.values(small.frontiers).filter((ids) => ids.length > 0);
    assert.equal(await at(page, 'frontier-table').count(), filled.length);
    const ids = await page.locator('section[data-class="CPU"] [data-testid="frontier-row"]').evaluateAll((rows) => rows.map((row) => row.dataset.id));
    const expected = small.frontiers.CPU;
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

  async 'the frontier shows what holds, and other lists under their own names'() {
    const page = await open(`t/${small.id}?class=CPU`);
    const found = () => at(page, 'frontier-row').evaluateAll((rows) => rows.map((row) => ({ id: row.dataset.id, text: row.innerText })));
    const shows = async (name, list, expected) => {
      await at(page, 'frontier-lists').getByRole('link', { name, exact: true }).click();
      await page.locator(`section[data-list="${list}"] [data-testid="frontier-row"][data-id="${expected[0]}"]`).waitFor();
      const rows = await found();
      assert.deepEqual(rows.map((row) => row.id), expected.slice(0, rows.length), list);
      return rows;
    };
    assert.ok(small.claims.CPU.length > 0 && small.globals.CPU.length > 0);
    const claims = await shows('Claims', 'claims', small.claims.CPU);
    assert.match(page.url(), /list=claims/);
    assert.ok(claims.every((row) => !row.text.includes('confirmed here')), 'a claim is called confirmed');
    await at(page, 'list-about').getByText('A claim may be wrong, or made up.').waitFor();
    await shows('By anyone', 'global', small.globals.CPU);
    await shows('Reference', 'reference', small.reference);
    const holding = await shows('Holds here', 'frontier', small.frontiers.CPU);
    assert.ok(holding.every((row) => row.text.includes('confirmed here')), 'a row of the frontier is not called confirmed');
    return page;
  },

  async 'a task without a confirmed result says so, and what to do'() {
    const claimed = world.tasks.find((task) => task.records && Object.values(task.frontiers).every((ids) => ids.length === 0) && Object.values(task.claims).some((ids) => ids.length > 0));
    const page = await open(`t/${claimed.id}`);
    await page.getByText(/claims?, none confirmed here yet/).first().waitFor();
    await page.getByText('spore set trust NODE').first().waitFor();
    await page.getByText('none yet').first().waitFor();
    await page.getByRole('link', { name: 'see the claims' }).first().click();
    await at(page, 'frontier-row').first().waitFor();
    return page;
  },

  async 'words tell a claim from a confirmed result on a narrow screen too'() {
    const page = await open(`t/${small.id}?class=CPU`, { width: 380, height: 760 });
    await at(page, 'frontier-row').first().getByText('confirmed here').filter({ visible: true }).first().waitFor();
    await page.goto(`${main.url}/t/${small.id}?class=CPU&list=claims`);
    await page.locator('section[data-list="claims"] [data-testid="frontier-row"]').first().getByText(/^\W*(claim|disputed)$/).filter({ visible: true }).first().waitFor();
    return page;
  },

  async 'experiments are paged in both directions, and the address holds the place'() {
    const page = await open(`t/${small.id}?view=experiments`);
    const rows = () => at(page, 'experiment-row').evaluateAll((found) => found.map((row) => row.dataset.id));
    const shows = (id) => page.locator(`[data-testid="experiment-row"][data-id="${id}"]`).waitFor();
    const newest = small.records.map((record) => record.id).reverse();
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
    await page.getByRole('link', { name: 'By metric' }).click();
    await shows(small.by_metric[0]);
    assert.deepEqual(await rows(), small.by_metric.slice(0, 50));
    return page;
  },

  async 'the search finds words, with the keyboard alone'() {
    const page = await open(`t/${small.id}`);
    await points(page, small.records.length);
    await page.keyboard.press('/');
    assert.equal(world.search.words, 'weight decay');
    const expected = world.search.first_task;
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

  async 'search results have a page, for one task or for all'() {
    const page = await open(`t/${small.id}`);
    await at(page, 'search').fill('weight decay');
    await at(page, 'search').press('Enter');
    const shows = (id) => page.locator(`[data-testid="experiment-row"][data-id="${id}"]`).waitFor();
    const here = world.search.first_task;
    await shows(here[0]);
    assert.match(page.url(), new RegExp(`/search\\?q=weight\\+decay&task=${small.id}$`));
    await at(page, 'everywhere').click();
    const { everywhere } = world.search;
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

  async 'a failed search shows the error'() {
    const page = await open(`t/${small.id}`, { quiet: true });
    await points(page, small.records.length);
    await world.tell('stop');
    await at(page, 'search').fill('weight');
    await at(page, 'search-panel').getByText('Is the node running?').waitFor();
    await at(page, 'search').press('Enter');
    await page.locator('main').getByText('Is the node running?').waitFor();
    await world.tell('start');
    await page.getByRole('button', { name: 'Try again' }).click();
    await at(page, 'experiment-row').first().waitFor();
    return page;
  },

  async 'a new record appears on an open page, by one small request'() {
    const page = await open(`t/${small.id}`);
    await points(page, small.records.length);
    await page.locator('[data-testid="connection"][data-state="live"]').first().waitFor();
    const answers = [];
    page.on('response', (response) => response.url().includes('/graph.bin') && answers.push(response));
    const record = await publish();
    await at(page, 'activity-row').first().getByText(record.description).waitFor();
    await points(page, small.records.length);
    assert.equal(answers.length, 1);
    assert.match(answers[0].url(), /\/graph\.bin\?since=./);
    const bytes = await answers[0].body();
    // The record and perhaps its parent, of the graph's 640: the content byte says that these are changes.
    assert.deepEqual([bytes[5], bytes.length < 500], [1, true]);
    return page;
  },

  async 'the progress of a training run is shown'() {
    const { url, task } = await world.tell('train');
    const trainer = await pageOn(url);
    const page = await open(`t/${task}`, { at: trainer.url });
    await at(page, 'progress').getByText(/step \d+ of \d+/).waitFor();
    const step = async () => Number(await page.locator('[data-testid="progress"][data-step]').getAttribute('data-step'));
    const before = await step();
    await page.waitForFunction((before) => Number(document.querySelector('[data-testid="progress"]')?.dataset.step) > before, before);
    assert.deepEqual(page.errors, []);
    await page.goto('about:blank');
    await trainer.close();
    await world.tell('rest');
    return page;
  },

  async 'a stopped node is shown as offline, and the page recovers when it starts'() {
    const page = await open(`t/${small.id}`, { quiet: true });
    await page.locator('[data-testid="connection"][data-state="live"]').first().waitFor();
    await points(page, small.records.length);
    await world.tell('stop');
    await page.locator('[data-testid="connection"][data-state="retrying"]').first().waitFor();
    await publish();
    await world.tell('start');
    await page.locator('[data-testid="connection"][data-state="live"]').first().waitFor();
    await points(page, small.records.length);
    await world.tell('stop');
    await page.getByRole('link', { name: 'Tasks', exact: true }).click();
    await page.getByText('Is the node running?').waitFor();
    await world.tell('start');
    await page.getByRole('button', { name: 'Try again' }).click();
    await at(page, 'task-row').first().waitFor();
    return page;
  },

  async 'an experiment shows its change, script, evidence and lineage'() {
    const record = small.records.find((r) => r.verdict === 'verified' && r.index % 6 === 0 && r.index % 5 !== 4 && r.depth >= 2);
    const page = await open(`e/${record.id}`);
    await at(page, 'experiment-page').waitFor();
    assert.equal(await page.locator('[data-testid="diff"] tr[data-kind="add"]').count(), 3);
    assert.match(await at(page, 'diff').innerText(), /\+rate = tune/);
    assert.match(await at(page, 'code').innerText(), /def forward\(tokens\):/);
    assert.equal(await at(page, 'evidence-row').count(), 3);
    const [counting] = await page.locator('[data-testid="evidence-row"][data-counts="here"]').allInnerTexts();
    assert.match(counting, /warden/);
    assert.match(counting, /weight \d+/);
    await at(page, 'evidence').getByText('confirmed here').waitFor();
    assert.equal(await page.locator('[data-testid="lineage"] li').count(), Math.min(record.depth + 1, 11));
    return page;
  },

  async 'an experiment says why it is rejected, or not comparable, or only a claim'() {
    const refuted = small.records.find((r) => r.verdict === 'rejected' && r.index % 57 === 0 && r.index % 2 === 1);
    const page = await open(`e/${refuted.id}`);
    await at(page, 'evidence').getByText('more than one and a half time budgets').waitFor();
    await at(page, 'evidence').getByText('rejected').first().waitFor();
    const flawed = small.records.find((r) => !r.comparable);
    await page.goto(`${main.url}/e/${flawed.id}`);
    await at(page, 'flaw').getByText('another time budget').waitFor();
    const claim = small.records.find((r) => small.claims[r.class].includes(r.id) && r.verdict === 'unverified' && r.index % 3 !== 0);
    await page.goto(`${main.url}/e/${claim.id}`);
    await page.locator(`[data-testid="experiment-page"][data-id="${claim.id}"]`).waitFor();
    await at(page, 'evidence').getByText('A claim until a node with weight here measures it again.').waitFor();
    return page;
  },

  async 'a node shows the weight of its measurements'() {
    const page = await open(`n/${world.trusted}`);
    await at(page, 'node-page').getByText('trusted here').waitFor();
    await page.goto(`${main.url}/n/${world.nodes[0]}`);
    await at(page, 'standing-row').first().waitFor();
    await page.goto(`${main.url}/network`);
    await at(page, 'trust').getByText('this node').waitFor();
    return page;
  },

  async 'the signed record is copied as it was signed'() {
    const page = await open(`e/${small.records[0].id}`);
    await at(page, 'signed-json').locator('summary').click();
    await page.getByRole('button', { name: 'Copy JSON' }).click();
    await page.getByRole('button', { name: 'Copied' }).waitFor();
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    assert.match(copied, /"val_bpb": 2\.0,/);
    assert.equal(JSON.parse(copied).id, small.records[0].id);
    return page;
  },

  async 'untrusted text is shown as text'() {
    const page = await open(`t/${hostile.id}`);
    await points(page, hostile.record_count);
    await at(page, 'activity-row').first().getByText('<script>').first().waitFor();
    await page.goto(`${main.url}/n/${world.nodes[9]}`);
    await at(page, 'node-page').getByText('javascript:').waitFor();
    assert.equal(await page.locator('a[href^="javascript"]').count(), 0);
    await page.goto(`${main.url}/n/${world.nodes[0]}`);
    assert.match(await page.locator('a[href="https://example.org/amanita"]').getAttribute('rel'), /noopener/);
    assert.equal(await page.evaluate(() => window.__hostile), undefined);
    return page;
  },

  async 'a chart of fifty thousand records can be moved'() {
    const page = await open(`t/${large.id}`);
    await points(page, large.record_count);
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
    // Printed and not asserted: the page cannot promise how fast this machine is.
    console.log(`     frame while moving: median ${frames[frames.length >> 1].toFixed(0)} ms, longest ${frames.at(-1).toFixed(0)} ms`);
    assert.ok((await painted(page)) > 0.02);
    return page;
  },

  async 'empty tasks and unknown addresses have a message'() {
    const page = await open(`t/${empty.id}`, { quiet: true });
    await page.getByText('This task has no experiments yet.').waitFor();
    await page.goto(`${main.url}/e/${'0'.repeat(64)}`);
    await page.getByText(`no experiment ${'0'.repeat(64)} is known here`).waitFor();
    await page.goto(`${main.url}/nowhere`);
    await page.getByText('There is no such page.').waitFor();
    return page;
  },
});
