// Drives the page in Chromium on a real node with a made-up history: npm run test:browser
//
// The page is the one that the node's binary embeds: `npm run build`, then build the binary. With `-- --dist` it is
// dist/ as it is now, served by Vite in front of the node. `-- WORDS` runs only the tests whose names hold the words.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';
import { preview } from 'vite';
import pages from './browser/pages.mjs';
import readers from './browser/readers.mjs';
import shared from './browser/shared.mjs';
import { startWorld } from './world.mjs';

// Without any of these, the browser that playwright has installed for itself.
const EXECUTABLE = [process.env.CHROMIUM, process.env.SPORE_CHROMIUM, '/usr/bin/chromium', '/usr/bin/google-chrome'].find((path) => path && existsSync(path));
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'];
/** Bounds a hang on a busy machine, in milliseconds. */
const PATIENCE = 60_000;

/** Addresses outside /api that the node answers itself. */
const SHARED = '^/([tn]/[^/]+|search)/(chart|badge|feed)[.]';

/** The program that looks for barriers. It is run in the page by the browser, past the page's content policy. */
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const words = process.argv.slice(2).filter((argument) => argument !== '--dist');
const chosen = words[0] ?? '';

const world = await startWorld();
/** A task of the world by its name. */
const task = (name) => world.tasks.find((task) => task.name.startsWith(name));
const [small, large, hostile, empty] = [task('bytes-20s'), task('tiny-stories-5m'), task('hostile'), task('not-started')];

/** The address of the page on a node. */
async function pageOn(node) {
  if (!process.argv.includes('--dist')) return { url: node, close: async () => {} };
  const server = await preview({ preview: { host: '127.0.0.1', port: 0, proxy: Object.fromEntries(['/api', SHARED].map((path) => [path, { target: node, changeOrigin: true }])) }, logLevel: 'silent' });
  return { url: `http://127.0.0.1:${server.httpServer.address().port}`, close: () => server.close() };
}

const main = await pageOn(world.url);
const browser = await chromium.launch({ executablePath: EXECUTABLE, args: FLAGS });

/** Opens a page. Errors and warnings in its console fail the test that opened it, unless it is quiet. */
async function open(hash, { width = 1280, height = 900, quiet = false, at = main.url, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, permissions: ['clipboard-read', 'clipboard-write'], ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  page.errors = [];
  if (!quiet) page.on('console', (message) => ['error', 'warning'].includes(message.type()) && page.errors.push(message.text()));
  page.on('pageerror', (error) => page.errors.push(error.message));
  await page.goto(`${at}/${hash}`);
  return page;
}

const at = (page, id) => page.getByTestId(id);
/** Waits until the chart shows so many records. */
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

/** What the tests use. */
const harness = { world, main, small, large, hostile, empty, open, at, points, painted, publish, task, AXE, pageOn };
const tests = { ...pages(harness), ...readers(harness), ...shared(harness) };

/** Publishes a record of the first task. */
async function publish() {
  const record = await world.tell('publish');
  small.records.push(record);
  return record;
}

let failed = 0;
for (const [name, test] of Object.entries(tests).filter(([name]) => name.includes(chosen))) {
  let page;
  try {
    page = await test();
    assert.deepEqual(page.errors, []);
    console.log(`ok   ${name}`);
  } catch (error) {
    failed++;
    console.error(`FAIL ${name}\n${error.stack}`);
  }
  await page?.context().close();
}
await browser.close();
await main.close();
await world.end();
process.exit(failed > 0 ? 1 : 0);
