// Measures the explorer on a real node with a task of 50,000 records: scripts/bench explorer
//
// First paint, drawing of the chart, bytes of the page, tabs, and the answers' times with twenty readers, each beside its
// limit. Times are of this machine; processor time of the page stands beside wall time where it can be told.
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { startWorld } from './world.mjs';

const EXECUTABLE = [process.env.CHROMIUM, process.env.SPORE_CHROMIUM, '/usr/bin/chromium', '/usr/bin/google-chrome'].find((path) => path && existsSync(path));
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'];
/** Readers at once, and requests of each. */
const READERS = 20;
const REQUESTS = 10;
const TABS = 8;

const world = await startWorld();
const browser = await chromium.launch({ executablePath: EXECUTABLE, args: FLAGS });
const large = world.tasks.find((task) => task.name.startsWith('tiny-stories-5m'));
const at = (values, share) => [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))];
const figure = (name, value, unit, limit) => console.log(`figure ${name.padEnd(34)} ${String(value).padStart(9)} ${unit.padEnd(6)} limit ${limit}`);

/** The first visit of the large task: nothing is kept by the browser yet. */
async function firstVisit() {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const page = await context.newPage();
  const session = await context.newCDPSession(page);
  await session.send('Network.enable');
  await session.send('Performance.enable');
  let bytes = 0;
  session.on('Network.loadingFinished', (event) => (bytes += event.encodedDataLength));
  const begun = performance.now();
  await page.goto(`${world.url}/t/${large.id}`);
  await page.locator('[data-testid="chart"][data-points]').waitFor();
  await page.waitForFunction(() => Number(document.querySelector('[data-testid="chart"]').dataset.points) >= 50_000);
  const drawn = performance.now() - begun;
  const paint = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN);
  const { metrics } = await session.send('Performance.getMetrics');
  const cpu = metrics.find((metric) => metric.name === 'TaskDuration').value;
  figure('first contentful paint', Math.round(paint), 'ms', 300);
  figure('50,000 drawn, processor of the page', Math.round(1000 * cpu), 'ms', 400);
  figure('50,000 drawn, wall', Math.round(drawn), 'ms', '-');
  figure('bytes of that visit', Math.round(bytes / 1000), 'kB', 1000);
  await context.close();
}

async function tabs() {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const times = [];
  for (let tab = 0; tab < TABS; tab++) {
    const page = await context.newPage();
    const begun = performance.now();
    await page.goto(`${world.url}/`);
    await page.locator('[data-testid="task-row"]').first().waitFor();
    times.push(performance.now() - begun);
  }
  figure(`slowest of ${TABS} tabs`, Math.round(Math.max(...times)), 'ms', 2000);
  await context.close();
}

/** The 95th percentile of answers while twenty readers ask at once. */
async function readers(name, path, limit) {
  const times = [];
  let size = 0;
  const reader = async () => {
    for (let i = 0; i < REQUESTS; i++) {
      const begun = performance.now();
      const answer = await fetch(`${world.url}${path}`, { headers: { 'accept-encoding': 'gzip' } });
      size = (await answer.arrayBuffer()).byteLength;
      if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
      times.push(performance.now() - begun);
    }
  };
  await Promise.all(Array.from({ length: READERS }, reader));
  figure(`${name}, p50 of ${READERS} readers`, Math.round(at(times, 0.5)), 'ms', '-');
  figure(`${name}, p95 of ${READERS} readers`, Math.round(at(times, 0.95)), 'ms', limit);
  return size;
}

await firstVisit();
await tabs();
await readers('stat', '/api/v1/status', 50);
await readers('frontier', `/api/v1/tasks/${large.id}/frontier`, 50);
await readers('experiments', `/api/v1/tasks/${large.id}/experiments`, 50);
const activity = await readers('activity', `/api/v1/tasks/${large.id}/activity?limit=200`, 50);
await readers('search', '/api/v1/search?q=weight', 50);
const graph = await readers('graph.bin', `/api/v1/tasks/${large.id}/graph.bin`, 150);
figure('graph.bin of 50,000, unpacked', Math.round(graph / 1000), 'kB', '-');
const hostile = world.tasks.find((task) => task.name.startsWith('hostile'));
const worst = await (await fetch(`${world.url}/api/v1/tasks/${hostile.id}/activity?limit=200`)).arrayBuffer();
figure('activity of hostile texts', Math.round(Math.max(activity, worst.byteLength) / 1000), 'kB', 200);
await browser.close();
await world.end();
