//! The gate of the first stage: what the operator blocks and what there is no room for is refused, before and after
//! signatures are checked. Objects of this node and of trusted keys are taken also without disk space.

use std::{collections::HashMap, time::Instant};

use spore_protocol::{Kind, NodeId, ObjectId};

use super::{
    Deferral, Disposition, Origin,
    admission::{Admission, SignerRanks, Ticket, introducers::Source, refused::Refused},
    batch::{CheckedObject, Decision, QueuedObject},
    blocks::Blocks,
    space::Space,
};

/// Admission, the block list, and whether there is disk space.
#[derive(Debug)]
pub(super) struct Gate {
    pub admission: Admission,
    /// Shared with the handles.
    pub refused: Refused,
    /// Shared with the handles.
    pub blocks: Blocks,
    /// Shared with the handles.
    pub space: Space,
}

/// The tickets of a batch, by the index of the object.
pub(super) type Tickets = HashMap<usize, Ticket>;

impl Gate {
    /// The signers whose work the store has to be asked for.
    pub fn unasked(&self, queued: &[QueuedObject], now: u64) -> Vec<NodeId> {
        self.admission.unasked(queued.iter().map(|queued| (queued.origin, &queued.object)), now)
    }

    pub fn remember(&mut self, ranks: SignerRanks, now: u64) {
        self.admission.remember(ranks, now);
    }

    /// Removes the objects that are blocked, and those whose introduction nobody can pay for.
    pub fn introduce(
        &mut self,
        queued: Vec<QueuedObject>,
        decisions: &mut Vec<Decision>,
    ) -> (Vec<QueuedObject>, Tickets) {
        let (mut tickets, mut rest) = (Tickets::new(), Vec::with_capacity(queued.len()));
        let blocks = self.blocks.list();
        for queued in queued {
            let QueuedObject { index, origin, object } = &queued;
            let from_others = Source::of(*origin).is_some();
            let ticket = if from_others && blocks.blocks(object) {
                Err(Deferral::Blocked)
            } else if from_others && self.space.is_short() && !self.admission.is_trusted(&object.signer()) {
                Err(Deferral::NoSpace)
            } else {
                self.admission.introduce(*origin, object)
            };
            match ticket {
                Ok(ticket) => {
                    tickets.insert(*index, ticket);
                    rest.push(queued);
                }
                Err(deferral) => self.refuse((*index, *origin), (object.kind(), object.id()), deferral, decisions),
            }
        }
        (rest, tickets)
    }

    /// Removes the objects whose signers have no room.
    pub fn admit(
        &mut self,
        checked: Vec<CheckedObject>,
        tickets: &Tickets,
        decisions: &mut Vec<Decision>,
    ) -> Vec<CheckedObject> {
        let mut rest = Vec::with_capacity(checked.len());
        for checked in checked {
            let ticket = tickets.get(&checked.index).copied();
            match ticket.map_or(Ok(()), |ticket| self.admission.admit(&checked.object.signer(), ticket)) {
                Ok(()) => rest.push(checked),
                Err(deferral) => {
                    let key = (checked.object.kind(), checked.object.id());
                    self.refuse((checked.index, checked.origin), key, deferral, decisions);
                }
            }
        }
        rest
    }

    /// Refuses an object for now, and remembers that, so that catch-up does not fetch it again at once.
    pub fn refuse(
        &self,
        (index, origin): (usize, Origin),
        (kind, id): (Kind, ObjectId),
        deferral: Deferral,
        decisions: &mut Vec<Decision>,
    ) {
        self.refused.add(kind, id, self.admission.introducer(origin), deferral, Instant::now());
        decisions.push((index, Disposition::Later(deferral)));
    }
}

#[cfg(test)]
impl Gate {
    pub(super) fn open(store: &spore_storage::Store) -> Self {
        let admission = Admission::new(store, super::admission::introducers::Introducers::default());
        Self { admission, refused: Refused::default(), blocks: Blocks::default(), space: Space::default() }
    }
}
