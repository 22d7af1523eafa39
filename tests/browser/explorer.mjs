// Drives the explorer of a running node in Chromium, as a visitor would.
// node tests/browser/explorer.mjs URL TASK_ID EXPERIMENT_ID CHROMIUM
//
// Says "waiting for news" once the task's page is up, and goes on when more records appear there
// without a reload; says "signed: TEXT" with the signed record as the page copies it.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [url, task, experiment, executablePath] = process.argv.slice(2);
const { chromium } = createRequire(new URL('../../explorer-ui/package.json', import.meta.url))('playwright-core');
const PATIENCE = 60_000; // milliseconds; bounds a hang on a busy machine

const browser = await chromium.launch({ executablePath, args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'] });
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, permissions: ['clipboard-read', 'clipboard-write'] });
context.setDefaultTimeout(PATIENCE);
const page = await context.newPage();

const complaints = [];
page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
page.on('pageerror', (error) => complaints.push(error.message));
page.on('request', (request) => {
  const target = new URL(request.url());
  if (target.protocol.startsWith('http') && target.origin !== new URL(url).origin) complaints.push(`left the node: ${request.url()}`);
});

try {
  // The index leads to the task.
  await page.goto(url);
  await page.getByTestId('tasks-list').waitFor();
  const row = page.locator(`[data-testid="task-row"][data-id="${task}"]`);
  await row.waitFor();
  await row.getByRole('link').first().click();
  await page.waitForURL(`**/#/task/${task}*`);

  // The task: chart, frontier, activity.
  const chart = page.getByTestId('chart');
  await chart.waitFor();
  await page.waitForFunction(() => Number(document.querySelector('[data-testid="chart"]')?.dataset.points) > 0);
  const count = async () => Number(await chart.getAttribute('data-points'));
  const before = await count();
  await page.getByTestId('frontier-table').first().waitFor();
  await page.getByTestId('frontier-row').first().waitFor();
  await page.getByTestId('activity-row').first().waitFor();

  // News arrives by itself.
  await page.locator('[data-testid="connection"][data-state="live"]').first().waitFor();
  console.log('waiting for news');
  await page.waitForFunction((known) => Number(document.querySelector('[data-testid="chart"]').dataset.points) > known, before, { timeout: PATIENCE });
  console.log(`news: ${before} records became ${await count()}`);

  // The experiment: what it changed, its script, its evidence, the signed record.
  await page.goto(`${url}/#/experiment/${experiment}`);
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

  assert.deepEqual(complaints, [], 'the page complained');
} finally {
  await browser.close();
}
