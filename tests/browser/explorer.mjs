// Drives the explorer of a running node in Chromium, as a user would.
// node tests/browser/explorer.mjs URL TASK_ID EXPERIMENT_ID CHROMIUM
//
// Prints "waiting for records" when the task's page is open, and continues when more records appear on it without a
// reload. Prints "signed: TEXT" with the signed record as the page copies it.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [url, task, experiment, executablePath] = process.argv.slice(2);
const { chromium } = createRequire(new URL('../../explorer-ui/package.json', import.meta.url))('playwright-core');
/** Records that arrive while the page is open. */
const NEW_RECORDS = 3;
/** Bounds a hang on a busy machine, in milliseconds. */
const PATIENCE = 60_000;

const browser = await chromium.launch({ executablePath, args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'] });
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, permissions: ['clipboard-read', 'clipboard-write'] });
context.setDefaultTimeout(PATIENCE);
const page = await context.newPage();

const errors = [];
page.on('console', (message) => ['error', 'warning'].includes(message.type()) && errors.push(message.text()));
page.on('pageerror', (error) => errors.push(error.message));
page.on('request', (request) => {
  const target = new URL(request.url());
  if (target.protocol.startsWith('http') && target.origin !== new URL(url).origin) errors.push(`left the node: ${request.url()}`);
});

try {
  // The index leads to the task.
  await page.goto(url);
  await page.getByTestId('tasks-list').waitFor();
  const row = page.locator(`[data-testid="task-row"][data-id="${task}"]`);
  await row.waitFor();
  await row.getByRole('link').first().click();
  await page.waitForURL(`**/t/${task}*`);

  // The task: chart, frontier, activity.
  const chart = page.getByTestId('chart');
  await chart.waitFor();
  await page.waitForFunction(() => Number(document.querySelector('[data-testid="chart"]')?.dataset.points) > 0);
  const count = async () => Number(await chart.getAttribute('data-points'));
  const before = await count();
  await page.getByTestId('frontier-table').first().waitFor();
  await page.getByTestId('frontier-row').first().waitFor();
  await page.getByTestId('activity-row').first().waitFor();

  // New records appear without a reload.
  await page.locator('[data-testid="connection"][data-state="live"]').first().waitFor();
  console.log('waiting for records');
  await page.waitForFunction((known) => Number(document.querySelector('[data-testid="chart"]').dataset.points) >= known, before + NEW_RECORDS, { timeout: PATIENCE });
  console.log(`new records: ${before} records became ${await count()}`);

  // All experiments: the older page, and back.
  const rows = async () => page.getByTestId('experiment-row').evaluateAll((found) => found.map((row) => row.dataset.id));
  const shown = async (other) => page.waitForFunction((known) => {
    const first = document.querySelector('[data-testid="experiment-row"]')?.dataset.id;
    return first !== undefined && first !== known;
  }, other);
  await page.getByRole('link', { name: 'All experiments' }).click();
  await shown(null);
  const newest = await rows();
  await page.getByRole('link', { name: 'Older' }).click();
  await shown(newest[0]);
  const older = await rows();
  assert.equal(newest.length, 50);
  assert.equal(new Set([...newest, ...older]).size, await count(), 'every experiment is on one of the two pages');
  await page.getByRole('link', { name: 'Newer' }).click();
  await shown(older[0]);
  assert.deepEqual(await rows(), newest);

  // The search, with the keyboard alone: by words, and by the first digits of an id.
  const finds = async (question, wanted) => {
    await page.keyboard.press('/');
    await page.keyboard.type(question);
    await page.locator(`[data-testid="search-row"][data-id="${wanted}"]`).waitFor();
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await page.locator(`[data-testid="experiment-page"][data-id="${wanted}"]`).waitFor();
  };
  await finds(experiment.slice(0, 10), experiment);
  const words = await page.locator('h1').innerText();
  await page.goto(`${url}/t/${task}`);
  await chart.waitFor();
  await finds(words.toUpperCase(), experiment);

  // The experiment: what it changed, its script, its evidence, the signed record.
  await page.goto(`${url}/e/${experiment}`);
  await page.locator(`[data-testid="experiment-page"][data-id="${experiment}"]`).waitFor();
  assert.ok((await page.getByTestId('diff').innerText()).includes('+rate'), 'the diff');
  assert.ok((await page.getByTestId('code').innerText()).includes('def model(tokens):'), 'the script');
  assert.ok((await page.getByTestId('evidence').innerText()).toLowerCase().includes('verif'), 'the evidence');
  await page.getByTestId('lineage').waitFor();
  await page.getByTestId('signed-json').locator('summary').click();
  await page.getByRole('button', { name: 'Copy JSON' }).click();
  await page.getByRole('button', { name: 'Copied' }).waitFor();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  console.log(`signed: ${JSON.stringify(copied)}`);

  assert.deepEqual(errors, [], 'the page reported errors');
} finally {
  await browser.close();
}
