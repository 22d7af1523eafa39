// A made-up world in the shapes of the node's API, from a seed: for developing and testing the page
// without a node. It holds what a page must bear: large tasks, outliers, clocks set wrong, hostile text.
import { createHash } from 'node:crypto';

/** Mulberry32: small, and the same everywhere. */
function randomOf(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const hex = (text) => createHash('sha256').update(text).digest('hex');

const TOLERANCES = { H100: 0.0015, A100: 0.0015, RTX_4090: 0.002, RTX_3090: 0.003, CPU: 0.002, APPLE_MPS: 0.002 };
const MODELS = { H100: 'NVIDIA H100 80GB HBM3', A100: 'A100-SXM4-80GB', RTX_4090: 'NVIDIA GeForce RTX 4090', RTX_3090: 'NVIDIA GeForce RTX 3090', CPU: 'CPU', APPLE_MPS: 'Apple M3 Max' };
const CHANGES = [
  ['Raise the learning rate to $', 'The loss curve is still steep at the deadline: larger steps should use the budget better.'],
  ['Widen the MLP by a factor of $', 'More capacity per token at little cost in steps.'],
  ['Cosine schedule with warm-up of $ steps', 'A short warm-up steadies the first steps of AdamW.'],
  ['Halve the depth, double the width', 'Fewer layers run faster, and short budgets reward throughput.'],
  ['Rotary base $', 'Longer wavelengths help with the far repeats in this corpus.'],
  ['Tie input and output embeddings', 'Saves parameters where the vocabulary is only bytes.'],
  ['RMS norm before attention only', 'One norm fewer a layer buys steps.'],
  ['Batch of $ sequences', 'Smaller batches, more updates.'],
  ['Weight decay $', 'Hardly any overfitting is possible in this budget.'],
  ['Squared ReLU in the MLP', 'Sparser activations, about the same cost.'],
  ['Query and key norm', 'Lets the learning rate go up without blowing up attention.'],
  ['Logit soft cap at $', 'Keeps early logits small.'],
];

const BASE_SCRIPT = `# A small GPT over bytes. Everything that \`tune\` names may be varied.
width = tune("width", 192, [128, 192, 256, 384])
heads = tune("heads", 6, [4, 6, 8])
layers = tune("layers", 4, [2, 3, 4, 6])
rate = tune("learning_rate", 3e-3, [1e-3, 2e-3, 3e-3, 6e-3])

def block(x, i):
    """Attention and an MLP, each on a normed residual stream."""
    h = rms_norm(x, name = "norm_a%d" % i)
    x = x + attention(h, heads = heads, causal = True, rotary = 10000.0, name = "attn%d" % i)
    h = rms_norm(x, name = "norm_m%d" % i)
    h = linear(h, 4 * width, name = "up%d" % i)
    return x + linear(gelu(h), width, name = "down%d" % i)

def forward(tokens):
    x = embedding(tokens, vocabulary = 256, width = width)
    for i in range(layers):
        x = block(x, i)
    return linear(rms_norm(x, name = "last"), 256, name = "logits")

model(
    forward = forward,
    context = 256,
    batch = 32,
    optimizer = adamw(rate, beta1 = 0.9, beta2 = 0.95, decay = 0.1),
    schedule = cosine(warmup = 40),
)
`;

const DIFF = `--- parent/train.star
+++ train.star
@@ -1,8 +1,8 @@
 # A small GPT over bytes. Everything that \`tune\` names may be varied.
 width = tune("width", 192, [128, 192, 256, 384])
 heads = tune("heads", 6, [4, 6, 8])
-layers = tune("layers", 6, [2, 3, 4, 6])
-rate = tune("learning_rate", 2e-3, [1e-3, 2e-3, 3e-3, 6e-3])
+layers = tune("layers", 4, [2, 3, 4, 6])
+rate = tune("learning_rate", 3e-3, [1e-3, 2e-3, 3e-3, 6e-3])
 
 def block(x, i):
     """Attention and an MLP, each on a normed residual stream."""
@@ -12,7 +12,7 @@
     h = rms_norm(x, name = "norm_m%d" % i)
     h = linear(h, 4 * width, name = "up%d" % i)
-    return x + linear(relu(h), width, name = "down%d" % i)
+    return x + linear(gelu(h), width, name = "down%d" % i)
 
 def forward(tokens):
     x = embedding(tokens, vocabulary = 256, width = width)
`;

export const HOSTILE = `<img src=x onerror="window.__hostile=1"><script>window.__hostile=1</script>`;

/** Everything the server answers from. `now` is the world's present, in Unix seconds. */
export function createWorld({ seed = 7, now = Math.floor(Date.now() / 1000), large = 50_000 } = {}) {
  const random = randomOf(seed);
  const nodes = makeNodes(random, now);
  const tasks = [
    makeTask({ name: 'bytes-20s', description: 'A language model over bytes of made text, trained from scratch in twenty seconds.', records: 640, classes: ['RTX_4090', 'CPU', 'H100'], start: 3.42, floor: 1.31, seconds: 20, span: 86_400 * 3, outliers: true }),
    makeTask({ name: 'tiny-stories-5m', description: 'Five minutes on children’s stories; held-out bits per byte.', records: large, classes: ['RTX_4090', 'A100', 'RTX_3090', 'APPLE_MPS'], start: 2.1, floor: 0.89, seconds: 300, span: 86_400 * 120 }),
    makeTask({ name: 'digits-accuracy', description: 'Classify small digits; share of right answers on the held-out set.', records: 180, classes: ['CPU'], start: 0.71, floor: 0.985, goal: 'maximize', metric: 'accuracy', seconds: 60, span: 86_400 * 9 }),
    makeTask({ name: 'legacy-1a2b3c4d', description: '', records: 42, classes: ['H100'], start: 1.02, floor: 0.93, seconds: 300, span: 86_400 * 30, legacy: true }),
    makeTask({ name: `hostile ${HOSTILE}`, description: `Right-to-left \u202egnirts\u202c and ${'very'.repeat(60)} long`, records: 12, classes: ['CPU'], start: 2, floor: 1.7, seconds: 20, span: 7200, hostile: true }),
    makeTask({ name: 'not-started', description: 'Created, and nobody has come yet.', records: 0, classes: [], start: 1, floor: 1, seconds: 20, span: 1 }),
    makeTask({ name: 'first-steps', description: 'Minutes old, on a base script written long before.', records: 5, classes: ['CPU'], start: 2.9, floor: 1.7, seconds: 20, span: 180 }),
    makeTask({ name: 'root-only', description: 'Its creator has published the root.', records: 1, classes: ['CPU'], start: 2.9, floor: 1.7, seconds: 20, span: 60 }),
  ];
  let sequence = tasks.reduce((sum, task) => sum + task.records.length, 0);

  function makeTask(spec) {
    const task = {
      size: spec.records,
      goal: 'minimize',
      metric: 'val_bpb',
      ...spec,
      id: hex(`task ${spec.name}`),
      records: [],

      created: now - spec.span - 86_400 * 40,
    };
    const kept = {};
    for (let i = 0; i < spec.records; i++) addRecord(task, i, kept);
    markFrontier(task);
    return task;
  }

  function addRecord(task, i, kept) {
    const spec = task;
    const hardwareClass = i === 0 ? spec.classes[0] : spec.classes[Math.floor(random() ** 1.6 * spec.classes.length)];
    const own = (kept[hardwareClass] ??= []);
    const parent = i === 0 ? null : own.length > 0 ? own[Math.max(0, own.length - 1 - Math.floor(random() ** 3 * Math.min(own.length, 30)))] : task.records[0];
    const roll = random();
    let status = i === 0 ? 'keep' : roll < 0.07 ? 'crash' : 'discard';
    const gap = (parent?.metric ?? spec.start) - spec.floor;
    let metric = i === 0 ? spec.start : parent.metric + Math.abs(gap) * 0.16 * random() ** 1.5 * (spec.goal === 'maximize' ? -1 : 1) + 0.003 * (random() - 0.4);
    if (i > 0 && status !== 'crash' && (random() < 0.09 || own.length === 0)) {
      status = 'keep';
      metric = parent.metric - gap * (own.length < 12 ? 0.12 : 0.02) * random() - (spec.goal === 'maximize' ? -1 : 1) * 1e-6;
    }
    if (spec.outliers && status === 'discard' && random() < 0.02) metric = 10 ** (1 + random() * 5);
    const from = now - spec.span;
    const pace = i / Math.max(1, task.size);
    let timestamp = Math.floor(from + spec.span * Math.min(1, pace) + random() * 30);
    if (i === 0) timestamp = task.created;
    const [change, hypothesis] = CHANGES[Math.floor(random() * CHANGES.length)];
    const record = {
      id: hex(`${task.name} ${i}`),
      index: task.records.length,
      parent,
      depth: parent ? parent.depth + 1 : 0,
      status,
      metric: status === 'crash' ? 0 : metric,
      hardwareClass,
      node: nodes[Math.floor(random() ** 2 * nodes.length)],
      timestamp,
      description: task.hostile ? `${HOSTILE} ${i}` : i === 0 ? 'Base script' : change.replace('$', (random() * 10).toPrecision(2)),
      hypothesis: i === 0 ? '' : hypothesis,
      steps: Math.floor(800 + random() * 4000),
      params: Math.floor(1e6 + random() * 4e7),
      verdict: status !== 'crash' && i % 3 === 0 ? (i % 33 === 0 ? 'disputed' : i % 57 === 0 ? 'rejected' : 'verified') : 'unverified',
      frontier: false,
    };
    task.records.push(record);
    if (status === 'keep') own.push(record);
    return record;
  }

  function markFrontier(task) {
    const better = (a, b) => (task.goal === 'maximize' ? a > b : a < b);
    for (const record of task.records) record.frontier = record.status === 'keep';
    for (const record of task.records) {
      const { parent } = record;
      if (record.status === 'keep' && parent && parent.hardwareClass === record.hardwareClass && better(record.metric, parent.metric)) parent.frontier = false;
    }
  }

  const byTask = new Map(tasks.map((task) => [task.id, task]));
  const byId = new Map(tasks.flatMap((task) => task.records.map((record) => [record.id, { task, record }])));
  const bestFirst = (task) => (a, b) => (task.goal === 'maximize' ? b.metric - a.metric : a.metric - b.metric);

  function summary(task) {
    const count = (test) => task.records.filter(test).length;
    const frontier = task.records.filter((r) => r.frontier).sort(bestFirst(task));
    const classes = [...new Set(task.records.map((r) => r.hardwareClass))];
    return {
      task_id: task.id,
      name: task.name,
      description: task.description,
      task_type: 'ml_train',
      artifact_type: 'starlark',
      metric: task.metric,
      goal: task.goal,
      time_budget: task.seconds,
      created_by: nodes[0].node_id,
      timestamp: task.created,
      base_code_cid: hex(`base ${task.name}`),
      prepare_cid: hex('prepare'),
      dataset_cid: hex('data'),
      legacy: task.legacy === true,
      root: task.records[0]?.id ?? null,
      experiment_count: task.records.length,
      keep_count: count((r) => r.status === 'keep'),
      discard_count: count((r) => r.status === 'discard'),
      crash_count: count((r) => r.status === 'crash'),
      verified_count: count((r) => r.verdict === 'verified'),
      frontier_size: frontier.length,
      node_count: new Set(task.records.map((r) => r.node.node_id)).size,
      best: frontier[0]?.metric ?? null,
      best_id: frontier[0]?.id ?? null,
      last_activity: task.records.at(-1)?.timestamp ?? 0,
      classes: classes.map((name) => {
        const own = frontier.filter((r) => r.hardwareClass === name);
        return {
          class: name,
          experiment_count: count((r) => r.hardwareClass === name),
          frontier_size: own.length,
          best: own[0]?.metric ?? null,
          tolerance: TOLERANCES[name] ?? 0.002,
        };
      }),
    };
  }

  function experiment(task, r) {
    return {
      id: r.id,
      task_id: task.id,
      parent: r.parent?.id ?? null,
      depth: r.depth,
      status: r.status,
      val_bpb: r.metric,
      node_id: r.node.node_id,
      display_name: r.node.display_name,
      hardware_class: r.hardwareClass,
      gpu_model: MODELS[r.hardwareClass],
      num_steps: r.status === 'crash' ? 0 : r.steps,
      num_params: r.params,
      peak_vram_mb: Math.round(r.params / 9e3),
      time_budget: task.seconds,
      description: r.description,
      hypothesis: r.hypothesis,
      agent_model: r.index % 4 === 0 ? 'tune' : 'local-7b',
      code_cid: hex(`code ${r.id}`),
      timestamp: r.timestamp,
      verdict: r.verdict,
      on_frontier: r.frontier,
      stray: false,
    };
  }

  function detail(id) {
    const found = byId.get(id);
    if (!found) return null;
    const { task, record } = found;
    const lineage = [];
    for (let at = record.parent; at; at = at.parent) lineage.unshift(experiment(task, at));
    const e = experiment(task, record);
    const signed = {
      ...{ parent: e.parent, depth: e.depth, code_cid: e.code_cid, diff: e.parent ? DIFF : '', dataset_cid: hex('data'), prepare_cid: hex('prepare'), time_budget: e.time_budget },
      ...{ val_bpb: 'SPELLED', peak_vram_mb: e.peak_vram_mb, num_steps: e.num_steps, num_params: e.num_params, status: e.status, description: e.description, hypothesis: e.hypothesis },
      ...{ agent_model: e.agent_model, gpu_model: e.gpu_model, cuda_version: '', torch_version: '', task_id: e.task_id, timestamp: e.timestamp, version: 2, node_id: e.node_id },
      ...{ id: e.id, signature: hex(e.id) + hex(`s${e.id}`) },
    };
    const body = {
      experiment: e,
      task_name: task.name,
      metric: task.metric,
      goal: task.goal,
      lineage,
      children: task.records.filter((r) => r.parent === record).map((r) => experiment(task, r)),
      diff: record.parent ? DIFF : '',
      code: record.index % 5 === 4 ? null : BASE_SCRIPT,
      signed,
      evidence: evidence(record),
      received_at: record.timestamp + 2,
    };
    // As a Rust node prints it: a whole float keeps its `.0`, which JavaScript would drop.
    return JSON.stringify(body).replace('"SPELLED"', record.index === 0 ? '2.0' : JSON.stringify(record.metric));
  }

  function evidence(r) {
    const tolerance = TOLERANCES[r.hardwareClass] ?? 0.002;
    const measure = (kind, node, off, ignored = null, hardwareClass = r.hardwareClass) => ({
      event_id: hex(`${kind} ${r.id} ${node}`),
      kind,
      node_id: nodes[node].node_id,
      display_name: nodes[node].display_name,
      hardware_class: hardwareClass,
      value: r.metric + off * tolerance,
      timestamp: r.timestamp + 400 + node * 60,
      ignored,
    });
    const lists = {
      verified: [measure('verification', 3, 0.3), measure('verification', 4, -0.5), measure('verification', 5, 9, 'another hardware class', 'H100')],
      disputed: [measure('verification', 3, 0.2), measure('challenge', 4, 3.4), measure('challenge_response', 5, 2.9)],
      rejected: [measure('challenge', 4, 3.4), measure('challenge_response', 5, 2.9), measure('challenge_response', 6, 3.1), measure('challenge_response', 7, 3.3)],
    };
    return {
      verdict: r.verdict,
      ground_truth: r.verdict === 'rejected' ? r.metric + 3.1 * tolerance : null,
      tolerance,
      measurements: lists[r.verdict] ?? [],
    };
  }

  function graph(task) {
    const classNames = [...new Set(task.records.map((r) => r.hardwareClass))];
    return {
      ids: task.records.map((r) => r.id),
      parents: task.records.map((r) => r.parent?.index ?? -1),
      timestamps: task.records.map((r) => r.timestamp),
      metrics: task.records.map((r) => r.metric),
      statuses: task.records.map((r) => ['keep', 'discard', 'crash'].indexOf(r.status)),
      classes: task.records.map((r) => classNames.indexOf(r.hardwareClass)),
      class_names: classNames,
      verified: task.records.map((r) => r.verdict === 'verified'),
      frontier: task.records.map((r) => r.frontier),
    };
  }

  function activity(task, record) {
    return {
      sequence: record.sequence ?? record.index,
      kind: 'experiment',
      id: record.id,
      task_id: task.id,
      node_id: record.node.node_id,
      display_name: record.node.display_name,
      experiment_id: record.id,
      value: record.status === 'crash' ? null : record.metric,
      status: record.status,
      hardware_class: record.hardwareClass,
      text: record.description,
      timestamp: record.timestamp,
    };
  }

  /** A page as the API gives it; `key` names a row, and so is its cursor. */
  function page(rows, query, key) {
    const limit = Number(query.get('limit') ?? 50);
    const [after, before] = [query.get('after'), query.get('before')];
    const at = (cursor) => rows.findIndex((row) => key(row) === cursor);
    const rest = before === 'end' ? [...rows].reverse() : before !== null ? rows.slice(0, at(before)).reverse() : rows.slice(after === null ? 0 : at(after) + 1);
    const items = rest.slice(0, limit);
    return { items, first: items.length > 0 ? key(items[0]) : null, next: rest.length > limit ? key(items.at(-1)) : null };
  }

  /** A page of records, in the order given. */
  function experiments(rows, query) {
    const found = page(rows, query, ({ record }) => record.id);
    return { ...found, items: found.items.map(({ task, record }) => experiment(task, record)) };
  }

  function improvements(task, name) {
    let best = null;
    const better = (a, b) => (task.goal === 'maximize' ? a > b : a < b);
    return task.records
      .filter((r) => r.status === 'keep' && (name === null || r.hardwareClass === name))
      .filter((r) => (best === null || better(r.metric, best) ? ((best = r.metric), true) : false))
      .map((r) => ({ id: r.id, timestamp: r.timestamp, metric: r.metric }));
  }

  const wordsOf = (text) => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];

  /** All words must be there; an id's first digits find it too. */
  function search(words, task) {
    const wanted = wordsOf(words);
    const digits = words.trim().toLowerCase();
    const rows = (task ? all(task) : tasks.flatMap(all)).reverse();
    const byId = rows.filter(({ record }) => /^[0-9a-f]{4,64}$/.test(digits) && record.id.startsWith(digits));
    const byWords = rows.filter(({ record }) => {
      const has = new Set(wordsOf(`${record.description} ${record.hypothesis}`));
      return wanted.length > 0 && wanted.every((word) => has.has(word));
    });
    return [...new Set([...byId, ...byWords])];
  }

  function nodeSummary(node, records) {
    const own = records.filter(({ record }) => record.node === node);
    return {
      ...node,
      experiment_count: own.length,
      verification_count: own.filter(({ record }) => record.index % 3 === 0).length,
      hardware_classes: [...new Set(own.map(({ record }) => record.hardwareClass))],
      last_activity: own.at(-1)?.record.timestamp ?? 0,
    };
  }

  const all = (task) => task.records.map((record) => ({ task, record }));

  return {
    tasks,
    nodes,
    byTask,
    summary,
    graph,
    detail,
    page,
    all,
    experiments,
    improvements,
    search,
    /** Newest first. */
    recent: (task) => all(task).reverse(),
    /** Best first. */
    best: (task) => all(task).filter(({ record }) => record.status !== 'crash').sort((a, b) => bestFirst(task)(a.record, b.record)),
    children: (id) => {
      const found = byId.get(id);
      return found ? all(found.task).filter(({ record }) => record.parent === found.record) : null;
    },
    frontier: (task, name) => all(task).filter(({ record }) => record.frontier && (name === null || record.hardwareClass === name)).sort((a, b) => bestFirst(task)(a.record, b.record)),
    activity: (task, limit) => task.records.slice(-limit).reverse().map((r) => activity(task, r)),
    taskNodes: (task) => nodes.map((node) => nodeSummary(node, all(task))).filter((n) => n.experiment_count > 0).sort((a, b) => b.reputation - a.reputation),
    node: (id) => {
      const node = nodes.find((n) => n.node_id === id);
      return node ? nodeSummary(node, tasks.flatMap(all)) : null;
    },
    /** One more record; what the event stream tells of it. */
    publish(task, timestamp = Math.floor(Date.now() / 1000)) {
      const own = {};
      for (const r of task.records) if (r.status === 'keep') (own[r.hardwareClass] ??= []).push(r);
      const record = addRecord(task, task.records.length, own);
      record.timestamp = timestamp;
      record.sequence = ++sequence;
      markFrontier(task);
      byId.set(record.id, { task, record });
      return activity(task, record);
    },
    status: () => ({
      experiment_count: byId.size,
      verified_experiment_count: [...byId.values()].filter(({ record }) => record.verdict === 'verified').length,
      task_count: tasks.length,
      peer_count: 4,
      legacy_peer_count: 1,
      frontier_size: [...byId.values()].filter(({ record }) => record.frontier).length,
      node_id: nodes[1].node_id,
      peer_id: '12D3KooWMadeUpPeerIdForTheExplorer1111111111111111',
      version: '0.1.0',
      mode: 'research',
      active_task: tasks[0].id,
      hardware_class: 'RTX_4090',
      device: 'wgpu: NVIDIA GeForce RTX 4090',
      listen_addresses: ['/ip4/127.0.0.1/tcp/7474', '/ip4/127.0.0.1/udp/7474/quic-v1'],
      legacy_listen_addresses: ['0.0.0.0:7470'],
      rejected: { 'bad signature': 3, 'unknown field': 1 },
      pending_count: 2,
      sequence,
      uptime_seconds: 5400,
      activity: 'Training: raise the learning rate',
    }),
    peers: () => [...nodes.slice(2, 5).map((node, i) => ({ transport: 'libp2p', direction: null, received: null, sent: null, state: null, peer_id: `12D3KooWMadeUpPeer${i}aaaaaaaaaaaaaaaaaaaaaaaaaaaaa`, node_id: i === 2 ? null : node.node_id, address: `/ip4/192.0.2.${i + 4}/udp/7474/quic-v1`, agent: 'spore/0.1.0', connected_seconds: 700 * (i + 1), score: 4.5 - i * 3 })), LEGACY_PEER],
  };
}

/** A peer of the existing network, which tells no key. */
const LEGACY_PEER = {
  transport: 'legacy', peer_id: null, node_id: null, address: '192.0.2.9:7470', direction: 'outbound', agent: null,
  connected_seconds: 3600, score: 0, received: 1204, sent: 311, state: 'live',
};

function makeNodes(random, now) {
  const names = ['amanita', 'bolete', null, 'chanterelle', 'morel', 'oyster', 'enoki', null, 'truffle', HOSTILE, 'lion’s mane', 'puffball'];
  return names.map((name, i) => ({
    node_id: hex(`node ${i}`),
    display_name: name,
    bio: i === 0 ? 'Two cards in a cellar. Short budgets only.' : name === HOSTILE ? HOSTILE : null,
    website: i === 0 ? 'https://example.org/amanita' : i === 9 ? 'javascript:window.__hostile=1' : null,
    experiment_count: 0,
    verification_count: 0,
    reputation: Math.round((random() * 130 - 30) * 10) / 10,
    hardware_classes: [],
    last_activity: now,
  }));
}
