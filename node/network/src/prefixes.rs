//! Counting by the prefixes of addresses: which of a newcomer's host, subnet and site is full.

use ipnet::IpNet;
use spore_base::subnet::Subnet;

use crate::limits::PrefixBounds;

/// Whether an address with these prefixes lies in a host, subnet or site.
pub fn holds(net: IpNet, subnet: Subnet) -> bool {
    [subnet.host(), subnet.subnet(), subnet.site()].contains(&net)
}

/// The narrowest prefix of a newcomer in which enough is taken. What ends there makes room in the wider ones, too.
pub fn full<'a>(
    taken: impl Iterator<Item = &'a Subnet> + Clone,
    newcomer: Option<Subnet>,
    bounds: impl Fn(Subnet) -> Option<PrefixBounds>,
) -> Option<IpNet> {
    let newcomer = newcomer?;
    let bounds = bounds(newcomer)?;
    let is_full = |net: &IpNet, bound: usize| taken.clone().filter(|one| holds(*net, **one)).count() >= bound;
    let prefixes = [(newcomer.host(), bounds.host), (newcomer.subnet(), bounds.subnet), (newcomer.site(), bounds.site)];
    prefixes.into_iter().find(|(net, bound)| is_full(net, *bound)).map(|(net, _)| net)
}
