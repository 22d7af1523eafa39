//! How many connections there may be: in all, opened by peers, and with one address.
//!
//! Pure. Addresses are counted as [`subject`] groups them.

use std::{collections::HashMap, net::IpAddr};

use spore_base::peer_address::subject;

use super::limits::{MAX_ACCEPTED, MAX_PER_ADDRESS, MAX_SESSIONS};

/// How a connection was opened, as far as its slot is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The peer dialled this node.
    Accepted,
    /// This node dialled a peer that it found itself.
    Found,
    /// This node dialled a peer that the operator named.
    Named,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSlot {
    #[error("there are {MAX_SESSIONS} legacy connections already")]
    Full,
    #[error("peers have opened {MAX_ACCEPTED} legacy connections already")]
    Accepted,
    #[error("there are {MAX_PER_ADDRESS} connections with that address already")]
    Address,
}

/// Counts of the open connections.
#[derive(Debug, Default)]
pub struct ConnectionSlots {
    total: usize,
    accepted: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl ConnectionSlots {
    /// Takes a slot. To be given back with [`ConnectionSlots::release`].
    ///
    /// # Errors
    /// When there is no slot.
    pub fn take(&mut self, ip: IpAddr, opening: Opening) -> Result<(), NoSlot> {
        let with_address = self.by_address.entry(subject(ip)).or_default();
        let refusal = if self.total >= MAX_SESSIONS {
            Some(NoSlot::Full)
        } else if opening == Opening::Accepted && self.accepted >= MAX_ACCEPTED {
            Some(NoSlot::Accepted)
        } else if opening != Opening::Named && *with_address >= MAX_PER_ADDRESS {
            Some(NoSlot::Address)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            if *with_address == 0 {
                self.by_address.remove(&subject(ip));
            }
            return Err(refusal);
        }
        *with_address += 1;
        self.total += 1;
        self.accepted += usize::from(opening == Opening::Accepted);
        Ok(())
    }

    /// Gives back a slot that was taken with the same arguments.
    pub fn release(&mut self, ip: IpAddr, opening: Opening) {
        self.total = self.total.saturating_sub(1);
        if opening == Opening::Accepted {
            self.accepted = self.accepted.saturating_sub(1);
        }
        if let Some(with_address) = self.by_address.get_mut(&subject(ip)) {
            *with_address = with_address.saturating_sub(1);
            if *with_address == 0 {
                self.by_address.remove(&subject(ip));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn opening() -> impl Strategy<Value = Opening> {
        prop_oneof![Just(Opening::Accepted), Just(Opening::Found), Just(Opening::Named)]
    }

    proptest! {
        #[test]
        fn slots_are_bounded_in_all_and_for_each_address(
            steps in proptest::collection::vec((any::<u8>(), opening(), 0u8..4), 1..600)
        ) {
            let mut slots = ConnectionSlots::default();
            let mut open: Vec<(IpAddr, Opening)> = Vec::new();
            for (host, opening, step) in steps {
                if step == 0 && !open.is_empty() {
                    let (ip, opening) = open.swap_remove(usize::from(host) % open.len());
                    slots.release(ip, opening);
                } else {
                    let ip = IpAddr::from([127, 0, 0, host % 32]);
                    let count = |wanted: &dyn Fn(&(IpAddr, Opening)) -> bool| open.iter().filter(|one| wanted(one)).count();
                    let accepted = count(&|one| one.1 == Opening::Accepted);
                    let with_address = count(&|one| one.0 == ip);
                    let free = open.len() < MAX_SESSIONS
                        && (opening != Opening::Accepted || accepted < MAX_ACCEPTED)
                        && (opening == Opening::Named || with_address < MAX_PER_ADDRESS);
                    prop_assert_eq!(slots.take(ip, opening).is_ok(), free);
                    if free {
                        open.push((ip, opening));
                    }
                }
                prop_assert_eq!(slots.total, open.len());
                prop_assert_eq!(slots.by_address.values().sum::<usize>(), open.len());
            }
        }
    }

    #[test]
    fn accepted_connections_leave_room_for_peers_that_this_node_chose() {
        let mut slots = ConnectionSlots::default();
        let mut ips = (0u32..).map(|n| IpAddr::from(n.to_be_bytes()));
        while slots.take(ips.next().unwrap(), Opening::Accepted).is_ok() {}
        for _ in 0..MAX_SESSIONS - MAX_ACCEPTED {
            slots.take(ips.next().unwrap(), Opening::Named).unwrap();
        }
        assert_eq!(slots.take(ips.next().unwrap(), Opening::Named), Err(NoSlot::Full));
    }
}
