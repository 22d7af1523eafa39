//! Shares of what the server has little of: event streams, whole graphs, bytes of answers on their way.
//!
//! Addresses cost an attacker something, connections do not. So a share is counted by the client's host and by its subnet
//! beside the total: one host, or one rented subnet, never takes all, and a newcomer still gets one. Programs on this
//! machine and listed proxies are bounded by the total alone.
//!
//! Never here: what a share is used for.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnet::IpNet;
use spore_base::subnet::Subnet;

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    /// An IPv4 address, or an IPv6 network of one machine.
    host: IpNet,
    subnet: IpNet,
    /// A program on this machine, or a listed proxy, which brings many readers.
    near: bool,
}

impl Client {
    /// The client at an address.
    pub fn at(address: IpAddr) -> Self {
        let subnet = Subnet::of(address);
        let near = subnet.host().addr().is_loopback();
        Self { host: subnet.host(), subnet: subnet.subnet(), near }
    }

    /// The connection of a proxy that the operator listed.
    pub fn proxy(address: IpAddr) -> Self {
        Self { near: true, ..Self::at(address) }
    }

    /// Whether the client is a program on this machine, or a listed proxy.
    pub const fn is_here(&self) -> bool {
        self.near
    }

    /// Whether the other client has the same host.
    pub fn is_host_of(&self, other: &Self) -> bool {
        self.host == other.host
    }

    /// Whether the other client has the same subnet.
    pub fn is_subnet_of(&self, other: &Self) -> bool {
        self.subnet == other.subnet
    }
}

/// How much there is of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// For all clients together.
    pub all: usize,
    /// For clients of other machines together: the rest is kept for this machine.
    pub others: usize,
    pub subnet: usize,
    pub host: usize,
}

/// What is taken of something. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shares {
    bounds: Bounds,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    others: usize,
    /// By host and by subnet, without zeros: as many entries as there are shares at most.
    by_net: HashMap<IpNet, usize>,
}

impl Shares {
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, taken: Arc::default() }
    }

    /// Takes `amount`, until the share is dropped. None when there is not enough. A client that has nothing yet may take
    /// what is larger than a client's bound, and is then counted with that bound.
    pub fn take(&self, client: Client, amount: usize) -> Option<Share> {
        let Bounds { all, others, subnet, host } = self.bounds;
        let amount = amount.min(all).min(if client.is_here() { all } else { others.min(subnet).min(host) });
        let mut taken = self.lock();
        let with = |net: &IpNet| taken.by_net.get(net).copied().unwrap_or_default().saturating_add(amount);
        let is_other = !client.is_here();
        let too_much = taken.all.saturating_add(amount) > all
            || is_other
                && (taken.others.saturating_add(amount) > others
                    || with(&client.subnet) > subnet
                    || with(&client.host) > host);
        if too_much {
            return None;
        }
        taken.all += amount;
        if is_other {
            taken.others += amount;
            for net in client.nets() {
                *taken.by_net.entry(net).or_default() += amount;
            }
        }
        drop(taken);
        Some(Share { of: self.clone(), client, amount })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// The networks that shares are counted by: never the same one twice, because their lengths differ.
    const fn nets(&self) -> [IpNet; 2] {
        [self.host, self.subnet]
    }
}

/// A part of something, which is free again when this is dropped.
#[derive(Debug)]
pub struct Share {
    of: Shares,
    client: Client,
    amount: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.of.lock();
        taken.all = taken.all.saturating_sub(self.amount);
        if self.client.is_here() {
            return;
        }
        taken.others = taken.others.saturating_sub(self.amount);
        for net in self.client.nets() {
            if let Some(left) = taken.by_net.get_mut(&net) {
                *left = left.saturating_sub(self.amount);
                if *left == 0 {
                    taken.by_net.remove(&net);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { all: 20, others: 16, subnet: 8, host: 4 };

    fn client(text: &str) -> Client {
        Client::at(text.parse().unwrap())
    }

    #[test]
    fn one_host_or_subnet_never_takes_the_share_of_a_newcomer() {
        let shares = Shares::new(BOUNDS);
        let flood: Vec<_> = (0..=255).filter_map(|n| shares.take(client(&format!("192.0.2.{n}")), 1)).collect();
        assert_eq!(flood.len(), 8, "the subnet's bound");
        assert!(shares.take(client("192.0.2.7"), 1).is_none());
        assert!(shares.take(client("198.51.100.1"), 1).is_some());
        drop(flood);
        let of_a_host: Vec<_> = (0..9).filter_map(|_| shares.take(client("192.0.2.7"), 1)).collect();
        assert_eq!(of_a_host.len(), 4);
    }

    #[test]
    fn this_machine_has_a_rest_when_others_take_all_they_may() {
        let shares = Shares::new(BOUNDS);
        let all: Vec<_> = (0..99).filter_map(|n| shares.take(client(&format!("192.0.{n}.1")), 1)).collect();
        assert_eq!(all.len(), 16);
        let here: Vec<_> = (0..99).filter_map(|_| shares.take(client("127.0.0.1"), 1)).collect();
        assert_eq!(here.len(), 4);
    }

    #[test]
    fn addresses_of_one_machine_are_one_client() {
        assert_eq!(client("2001:db8:1:2::1"), client("2001:db8:1:2:ffff::9"));
        assert!(client("2001:db8:1:2::1").is_subnet_of(&client("2001:db8:1:3::1")));
        assert!(!client("2001:db8:1:2::1").is_host_of(&client("2001:db8:1:3::1")));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert!(client("::1").is_here() && client("127.9.0.1").is_here() && !client("::2").is_here());
    }

    #[test]
    fn amount_above_the_bound_is_taken_by_a_client_without_a_share() {
        let shares = Shares::new(BOUNDS);
        let large = shares.take(client("192.0.2.1"), 1000);
        assert!(large.is_some());
        assert!(shares.take(client("192.0.2.1"), 1).is_none());
        drop(large);
        assert!(shares.take(client("192.0.2.1"), 1).is_some());
    }

    proptest! {
        #[test]
        fn counts_equal_the_shares_that_are_held(steps in proptest::collection::vec((0u8..4, 0u8..4, 1usize..6, any::<bool>()), 1..200)) {
            let shares = Shares::new(BOUNDS);
            let mut held: Vec<Share> = Vec::new();
            for (net, host, amount, gives_back) in steps {
                let at = if net == 0 { client("127.0.0.1") } else { client(&format!("192.0.{net}.{host}")) };
                if gives_back && !held.is_empty() {
                    held.swap_remove(usize::from(host) % held.len());
                } else {
                    held.extend(shares.take(at, amount));
                }
                let sum = |wanted: &dyn Fn(&Share) -> bool| held.iter().filter(|s| wanted(s)).map(|s| s.amount).sum::<usize>();
                let taken = shares.lock();
                prop_assert_eq!(taken.all, sum(&|_| true));
                prop_assert_eq!(taken.others, sum(&|share| !share.client.is_here()));
                prop_assert!(taken.all <= BOUNDS.all && taken.others <= BOUNDS.others);
                for (net, count) in &taken.by_net {
                    prop_assert_eq!(*count, sum(&|share| share.client.nets().contains(net) && !share.client.is_here()));
                    prop_assert!(*count > 0);
                }
            }
        }
    }
}
