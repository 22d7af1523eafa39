//! How many connections there may be: in all, opened by peers, and with one host, subnet or site.
//!
//! Pure. Addresses are counted as [`Subnet`] groups them.

use std::{collections::HashMap, net::IpAddr};

use spore_base::subnet::{IpNet, Reach, Subnet};

use super::limits::{MAX_ACCEPTED, MAX_PER_ADDRESS, MAX_PER_SITE, MAX_PER_SUBNET, MAX_SESSIONS};

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
    #[error("peers of that subnet have opened enough connections already")]
    Subnet,
}

/// Counts of the open connections.
#[derive(Debug, Default)]
pub struct ConnectionSlots {
    total: usize,
    accepted: usize,
    by_host: HashMap<IpNet, usize>,
    /// Connections that peers of public addresses opened, by subnet and by site.
    accepted_by_prefix: HashMap<IpNet, usize>,
}

impl ConnectionSlots {
    /// Takes a slot. To be given back with [`ConnectionSlots::release`].
    ///
    /// # Errors
    /// When there is no slot.
    pub fn take(&mut self, ip: IpAddr, opening: Opening) -> Result<(), NoSlot> {
        let subnet = Subnet::of(ip);
        let with = |counts: &HashMap<IpNet, usize>, net| counts.get(&net).copied().unwrap_or_default();
        let is_full = |(net, most): (IpNet, usize)| with(&self.accepted_by_prefix, net) >= most;
        if self.total >= MAX_SESSIONS {
            return Err(NoSlot::Full);
        }
        if opening != Opening::Named && with(&self.by_host, subnet.host()) >= MAX_PER_ADDRESS {
            return Err(NoSlot::Address);
        }
        if prefixes(subnet, opening).any(is_full) {
            return Err(NoSlot::Subnet);
        }
        if opening == Opening::Accepted && self.accepted >= MAX_ACCEPTED {
            return Err(NoSlot::Accepted);
        }
        self.total += 1;
        self.accepted += usize::from(opening == Opening::Accepted);
        *self.by_host.entry(subnet.host()).or_default() += 1;
        for (net, _) in prefixes(subnet, opening) {
            *self.accepted_by_prefix.entry(net).or_default() += 1;
        }
        Ok(())
    }

    /// Gives back a slot that was taken with the same arguments.
    pub fn release(&mut self, ip: IpAddr, opening: Opening) {
        let subnet = Subnet::of(ip);
        self.total = self.total.saturating_sub(1);
        self.accepted = self.accepted.saturating_sub(usize::from(opening == Opening::Accepted));
        count_down(&mut self.by_host, subnet.host());
        for (net, _) in prefixes(subnet, opening) {
            count_down(&mut self.accepted_by_prefix, net);
        }
    }
}

/// The prefixes by which a connection is counted besides its host, with the most connections for each. One machine and
/// one private network have the bound of a host alone.
fn prefixes(subnet: Subnet, opening: Opening) -> impl Iterator<Item = (IpNet, usize)> {
    let counted = opening == Opening::Accepted && subnet.reach() == Reach::Public;
    let prefixes = [(subnet.subnet(), MAX_PER_SUBNET), (subnet.site(), MAX_PER_SITE)];
    prefixes.into_iter().filter(move |_| counted)
}

/// Entries of 0 are removed, so that there are as many as open connections at most.
fn count_down(counts: &mut HashMap<IpNet, usize>, net: IpNet) {
    if let Some(count) = counts.get_mut(&net) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&net);
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
                prop_assert_eq!(slots.by_host.values().sum::<usize>(), open.len());
            }
        }
    }

    #[test]
    fn one_subnet_or_site_leaves_slots_to_others() {
        let mut slots = ConnectionSlots::default();
        let mut accept = |ip: String| slots.take(ip.parse().unwrap(), Opening::Accepted);
        let of_subnet = (0..=255).filter(|n| accept(format!("198.51.100.{n}")).is_ok()).count();
        assert_eq!(of_subnet, MAX_PER_SUBNET);
        assert_eq!(accept("198.51.100.7".into()), Err(NoSlot::Subnet));
        let of_site = (0..=255).filter(|n| accept(format!("198.51.{n}.1")).is_ok()).count();
        assert_eq!(of_subnet + of_site, MAX_PER_SITE);
        let of_broker = (0..=255).filter(|n| accept(format!("2001:db8:1:{n:02x}00::1")).is_ok()).count();
        assert_eq!(of_broker, MAX_PER_SITE);
        assert_eq!(accept("192.0.2.1".into()), Err(NoSlot::Accepted), "the hub makes room for this one");
        for n in 0..MAX_PER_SUBNET {
            slots.release(format!("198.51.100.{n}").parse().unwrap(), Opening::Accepted);
        }
        assert!(slots.take("192.0.2.1".parse().unwrap(), Opening::Accepted).is_ok());
    }

    #[test]
    fn accepted_connections_leave_room_for_peers_that_this_node_chose() {
        let mut slots = ConnectionSlots::default();
        // Each of a site of its own.
        let mut ips = (1u32..).map(|n| IpAddr::from((n << 16).to_be_bytes()));
        while slots.take(ips.next().unwrap(), Opening::Accepted).is_ok() {}
        for _ in 0..MAX_SESSIONS - MAX_ACCEPTED {
            slots.take(ips.next().unwrap(), Opening::Named).unwrap();
        }
        assert_eq!(slots.take(ips.next().unwrap(), Opening::Named), Err(NoSlot::Full));
    }
}
