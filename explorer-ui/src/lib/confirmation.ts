/** What is known about the result of an experiment, in words. The API decides; this chooses the words. */
import type { Experiment, NodeStatus } from './api/types';

export type Confirmation = {
  /** Name of the badge; null where there is nothing to confirm. */
  badge: string | null;
  text: string;
  /** How many nodes without weight here found the same, or something else; null if none measured it. */
  unknown: string | null;
};

type Facts = Pick<Experiment, 'status' | 'verdict' | 'support' | 'flaw'>;

export const holds = (experiment: Pick<Experiment, 'verdict'>): boolean => experiment.verdict === 'verified' || experiment.verdict === 'upheld';

/** Whether an experiment is kept by its publisher and does not hold here. */
export const isUnconfirmed = (experiment: Pick<Experiment, 'status' | 'verdict'>): boolean => experiment.status === 'keep' && !holds(experiment);

/** Whether this node refuses the result: it is rejected, or not comparable by the task's terms. */
export const isRefusedHere = (experiment: Pick<Experiment, 'verdict' | 'flaw'>): boolean => experiment.verdict === 'rejected' || Boolean(experiment.flaw);

export function confirmationOf(experiment: Facts): Confirmation {
  const { unknown_for, unknown_against } = experiment.support;
  const said = [
    unknown_for > 0 ? `${unknown_for} unknown for` : '',
    unknown_against > 0 ? `${unknown_against} ${unknown_for > 0 ? '' : 'unknown '}against` : '',
  ].filter((part) => part !== '');
  const unknown = said.length > 0 ? said.join(', ') : null;
  const of = (badge: string | null, text: string): Confirmation => ({ badge, text, unknown });
  if (experiment.status === 'crash') return of(null, '');
  if (experiment.flaw) return of('flawed', 'not comparable');
  if (holds(experiment)) return of(experiment.verdict, 'confirmed here');
  if (experiment.verdict === 'disputed') return of('disputed', 'disputed');
  if (experiment.verdict === 'rejected') return of('rejected', 'rejected');
  return experiment.status === 'keep' ? of('claim', 'claim') : of('unverified', 'not measured');
}

/**
 * Notices that other results hold than before, also without an activity of the shown task: a measurement in another task
 * can give its signer weight.
 */
export class Confirmations {
  #known: string | null = null;

  constructor(private readonly onchange: () => void) {}

  receive = (status: Pick<NodeStatus, 'verified_experiment_count' | 'frontier_size'>): void => {
    const now = `${status.verified_experiment_count} ${status.frontier_size}`;
    if (this.#known !== null && this.#known !== now) this.onchange();
    this.#known = now;
  };
}
