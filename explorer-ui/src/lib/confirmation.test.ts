import { describe, expect, it } from 'vitest';
import { confirmationOf, Confirmations } from './confirmation';

const NOBODY = { trusted_for: 0, trusted_against: 0, unknown_for: 0, unknown_against: 0 };
const said = (status: string, verdict: string, support: Partial<typeof NOBODY> = {}, flaw: { name: string; text: string } | null = null) =>
  confirmationOf({ status, verdict, support: { ...NOBODY, ...support }, flaw });

describe('confirmationOf', () => {
  it('calls a kept experiment that nobody trusted measured a claim', () => {
    expect(said('keep', 'unverified')).toEqual({ badge: 'claim', text: 'claim', unknown: null });
    expect(said('keep', 'unverified', { unknown_for: 3 })).toEqual({ badge: 'claim', text: 'claim', unknown: '3 unknown for' });
    expect(said('discard', 'unverified').text).toBe('not measured');
  });
  it('calls an experiment confirmed only if its local verdict holds', () => {
    for (const verdict of ['verified', 'upheld']) expect(said('keep', verdict)).toEqual({ badge: verdict, text: 'confirmed here', unknown: null });
    expect(said('keep', 'disputed', { unknown_for: 2, unknown_against: 1 })).toEqual({ badge: 'disputed', text: 'disputed', unknown: '2 unknown for, 1 against' });
    expect(said('keep', 'rejected', { unknown_against: 1 }).unknown).toBe('1 unknown against');
  });
  it('names a flaw before a verdict, and says nothing of a crash', () => {
    expect(said('keep', 'verified', {}, { name: 'other_budget', text: 'another budget' }).text).toBe('not comparable');
    expect(said('crash', 'unverified').badge).toBeNull();
  });
});

describe('Confirmations', () => {
  it('notices a status with other numbers than the one before', () => {
    let noticed = 0;
    const confirmations = new Confirmations(() => noticed++);
    for (const verified_experiment_count of [3, 3, 4, 4]) confirmations.receive({ verified_experiment_count, frontier_size: 1 });
    expect(noticed).toBe(1);
  });
});
