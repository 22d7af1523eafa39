/** Words of this network that a newcomer does not know, each in one or two sentences. */
export const GLOSSARY = {
  confirmed: 'Nodes that this node trusts ran the script again and found the same result, within the tolerance.',
  frontier: 'Confirmed results that no confirmed child on the same hardware class beats. New experiments build on these.',
  claim: 'A result that its publisher kept, and that nobody who is trusted here has measured again. It may be wrong.',
  keep: 'The publisher says that the change improved the metric. “discard” says that it did not, “crash” that the run failed.',
  stray: 'An experiment whose first ancestor is not the root of this task. It is kept, but it is on no frontier.',
  val_bpb: 'Validation loss in bits per byte: how many bits the model needs for each byte of text that it has not seen. Lower is better.',
  tolerance: 'Two runs of the same script differ a little. Results that differ by no more than this count as the same.',
  budget: 'How long each training run may take. Only runs with the same budget are compared.',
  hardware: 'Devices of about the same speed. A faster device trains more in the same time, so results are compared within a class only.',
  reputation: 'How the node’s results fared when others measured them again: from −100 to +100. It is not a proof of honesty.',
} as const;

export type Word = keyof typeof GLOSSARY;
