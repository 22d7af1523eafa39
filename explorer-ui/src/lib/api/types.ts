/**
 * The shapes of the node's HTTP API, following `node/src/api/dto.rs`.
 *
 * `npm run types` replaces this file by one generated from `node/openapi.json`; the names and
 * optional fields are those the generator gives.
 */

export type Status = {
  experiment_count: number;
  verified_experiment_count: number;
  task_count: number;
  peer_count: number;
  frontier_size: number;
  node_id: string;
  peer_id: string;
  version: string;
  mode: string;
  active_task?: string | null;
  hardware_class?: string | null;
  device?: string | null;
  listen_addresses: string[];
  rejected: { [reason: string]: number };
  pending_count: number;
  sequence: number;
  uptime_seconds: number;
  activity: string;
};

export type ClassSummary = {
  class: string;
  experiment_count: number;
  frontier_size: number;
  best?: number | null;
  tolerance: number;
};

export type TaskSummary = {
  task_id: string;
  name: string;
  description: string;
  task_type: string;
  artifact_type: string;
  metric: string;
  goal: string;
  time_budget: number;
  created_by: string;
  timestamp: number;
  base_code_cid: string;
  prepare_cid: string;
  dataset_cid: string;
  legacy: boolean;
  root?: string | null;
  experiment_count: number;
  keep_count: number;
  discard_count: number;
  crash_count: number;
  verified_count: number;
  frontier_size: number;
  node_count: number;
  best?: number | null;
  best_id?: string | null;
  last_activity: number;
  classes: ClassSummary[];
};

export type Experiment = {
  id: string;
  task_id: string;
  parent?: string | null;
  depth: number;
  status: string;
  val_bpb: number;
  node_id: string;
  display_name?: string | null;
  hardware_class: string;
  gpu_model: string;
  num_steps: number;
  num_params: number;
  peak_vram_mb: number;
  time_budget: number;
  description: string;
  hypothesis: string;
  agent_model: string;
  code_cid: string;
  timestamp: number;
  verdict: string;
  on_frontier: boolean;
  stray: boolean;
};

export type Measurement = {
  event_id: string;
  kind: string;
  node_id: string;
  display_name?: string | null;
  hardware_class: string;
  value: number;
  timestamp: number;
  ignored?: string | null;
};

export type Evidence = {
  verdict: string;
  ground_truth?: number | null;
  tolerance: number;
  measurements: Measurement[];
};

export type ExperimentDetail = {
  experiment: Experiment;
  task_name: string;
  metric: string;
  goal: string;
  lineage: Experiment[];
  children: Experiment[];
  diff: string;
  code?: string | null;
  signed: Record<string, unknown>;
  evidence: Evidence;
  received_at: number;
};

export type GraphColumns = {
  ids: string[];
  parents: number[];
  timestamps: number[];
  metrics: number[];
  statuses: number[];
  classes: number[];
  class_names: string[];
  verified: boolean[];
  frontier: boolean[];
};

export type Frontier = {
  task_id: string;
  class?: string | null;
  experiments: Experiment[];
};

export type ExperimentPage = {
  experiments: Experiment[];
  next?: string | null;
};

export type NodeSummary = {
  node_id: string;
  display_name?: string | null;
  bio?: string | null;
  website?: string | null;
  experiment_count: number;
  verification_count: number;
  reputation: number;
  hardware_classes: string[];
  last_activity: number;
};

export type Activity = {
  sequence: number;
  kind: string;
  id: string;
  task_id?: string | null;
  node_id: string;
  display_name?: string | null;
  experiment_id?: string | null;
  value?: number | null;
  status?: string | null;
  hardware_class?: string | null;
  text: string;
  timestamp: number;
};

export type Progress = {
  task_id: string;
  purpose: string;
  step: number;
  steps: number;
  loss: number;
  elapsed_seconds: number;
  description: string;
};

export type Peer = {
  peer_id: string;
  node_id?: string | null;
  address: string;
  agent?: string | null;
  connected_seconds: number;
  score: number;
};

export type Problem = {
  error: string;
  hint?: string | null;
};
