/** Sums and orders of nodes, for their tables. */
import type { NodeSummary } from './api/types';
import type { NodeOrder } from './route';

/** What trusted nodes confirmed and refuted of a node, in all classes together. */
export function totals(node: Pick<NodeSummary, 'standings'>): { confirmed: number; refuted: number } {
  let [confirmed, refuted] = [0, 0];
  for (const standing of node.standings) {
    confirmed += standing.confirmed;
    refuted += standing.refuted;
  }
  return { confirmed, refuted };
}

const VALUES: Record<NodeOrder, (node: NodeSummary) => number> = {
  confirmed: (node) => totals(node).confirmed,
  refuted: (node) => totals(node).refuted,
  experiments: (node) => node.experiment_count,
  verifications: (node) => node.verification_count,
  reputation: (node) => node.reputation,
  seen: (node) => node.last_activity,
};

/** The nodes with the largest value of a column first; equal ones by id, so that the order does not jump. */
export function ordered(nodes: readonly NodeSummary[], order: NodeOrder): NodeSummary[] {
  const value = VALUES[order];
  return [...nodes].sort((a, b) => value(b) - value(a) || (a.node_id < b.node_id ? -1 : 1));
}
