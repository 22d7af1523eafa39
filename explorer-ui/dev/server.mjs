// Serves dist/ and a made-up API, for trying the page without a node:
//   npm run build && npm run fixture      then open http://127.0.0.1:8471
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { encodeGraph } from './compact.mjs';
import { createWorld } from './world.mjs';

const DIST = fileURLToPath(new URL('../dist/', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
// What the node itself sends: the page must live with it.
const POLICY = { 'content-security-policy': "default-src 'self'", 'x-content-type-options': 'nosniff' };

/** Starts a server; `port` 0 takes a free one. */
export async function serve({ port = 0, world = createWorld() } = {}) {
  const streams = new Set();
  let failing = false;

  const routes = [
    [/^status$/, () => world.status()],
    [/^tasks$/, (_, query) => world.page(world.tasks.map(world.summary), query, (task) => task.task_id)],
    [/^peers$/, () => world.peers()],
    [/^tasks\/(\w+)$/, (task) => world.summary(task)],
    [/^tasks\/(\w+)\/graph\.bin$/, (task) => encodeGraph(world.graph(task))],
    [/^tasks\/(\w+)\/frontier$/, (task, query) => world.experiments(world.frontier(task, query.get('class')), query)],
    [/^tasks\/(\w+)\/experiments$/, (task, query) => world.experiments(query.get('order') === 'metric' ? world.best(task) : world.recent(task), query)],
    [/^tasks\/(\w+)\/improvements$/, (task, query) => world.page(world.improvements(task, query.get('class')), query, (step) => step.id)],
    [/^tasks\/(\w+)\/activity$/, (task, query) => world.activity(task, Number(query.get('limit') ?? 50))],
    [/^tasks\/(\w+)\/nodes$/, (task, query) => world.page(world.taskNodes(task), query, (node) => node.node_id)],
    [/^experiments$/, (_, query) => world.experiments(world.tasks.flatMap(world.all).filter(({ record }) => record.node.node_id === query.get('node')).reverse(), query)],
    [/^search$/, (_, query) => world.experiments(world.search(query.get('q') ?? '', world.byTask.get(query.get('task'))), query)],
  ];

  function answer(path, query) {
    const single = /^(experiments|nodes)\/(\w+)$/.exec(path);
    if (single) return single[1] === 'nodes' ? world.node(single[2]) : world.detail(single[2]);
    const children = /^experiments\/(\w+)\/children$/.exec(path);
    if (children) {
      const rows = world.children(children[1]);
      return rows && world.experiments(rows, query);
    }
    for (const [pattern, respond] of routes) {
      const match = pattern.exec(path);
      if (!match) continue;
      const task = match[1] ? world.byTask.get(match[1]) : null;
      return task === undefined ? null : respond(task, query);
    }
    return null;
  }

  function openStream(request, response, task) {
    response.writeHead(200, { ...POLICY, 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    response.write(': open\n\n');
    const stream = { response, task };
    streams.add(stream);
    request.on('close', () => streams.delete(stream));
  }

  const server = createServer((request, response) => {
    const url = new URL(request.url, 'http://localhost');
    const path = decodeURIComponent(url.pathname);
    if (failing) {
      request.socket.destroy();
    } else if (path === '/api/v1/events') {
      openStream(request, response, url.searchParams.get('task'));
    } else if (path.startsWith('/api/v1/')) {
      const body = answer(path.slice('/api/v1/'.length), url.searchParams);
      const type = body instanceof Uint8Array ? 'application/octet-stream' : 'application/json';
      response.writeHead(body === null ? 404 : 200, { ...POLICY, 'content-type': type });
      const problem = { error: 'This node knows nothing of that id.', hint: 'It may not have arrived yet.' };
      response.end(typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body ?? problem));
    } else {
      const file = join(DIST, normalize(path === '/' ? '/index.html' : path));
      const found = file.startsWith(DIST) && existsSync(file) && statSync(file).isFile();
      response.writeHead(found ? 200 : 404, { ...POLICY, 'content-type': TYPES[extname(file)] ?? 'text/plain' });
      if (found) createReadStream(file).pipe(response);
      else response.end('not found');
    }
  });

  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    world,
    /** Sends one event to every open stream that follows its task. */
    emit(name, data) {
      for (const { response, task } of streams) {
        if (task === null || data.task_id === undefined || data.task_id === task) response.write(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
      }
    },
    /** With true, drops every connection and refuses new ones, as a node that was stopped. */
    fail(on) {
      failing = on;
      if (on) for (const { response } of streams) response.destroy();
    },
    close() {
      for (const { response } of streams) response.destroy();
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Goes on as a busy node would, until the process ends. */
function liven({ world, emit }) {
  let step = 0;
  const steps = 1200;
  setInterval(() => {
    step = (step + 15) % (steps + 15);
    emit('progress', { task_id: world.tasks[0].id, purpose: 'research', step, steps, loss: 1.4 + 4 * Math.exp(-step / 200) + Math.sin(step) * 0.03, elapsed_seconds: step / 60, description: 'Raise the learning rate to 4.0e-3' });
  }, 400);
  setInterval(() => emit('activity', world.publish(world.tasks[0])), 4_000);
  setInterval(() => emit('status', world.status()), 5_000);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const fixture = await serve({ port: Number(process.env.PORT ?? 8471) });
  liven(fixture);
  console.log(`The explorer with a made-up API: ${fixture.url}`);
}
