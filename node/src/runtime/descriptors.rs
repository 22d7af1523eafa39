//! The number of files and connections that the operating system lets this process open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use spore_base::warnings::{WarningTopic, Warnings};

/// Descriptors that a node may need: 256 files of the store, 320 connections of libp2p, 96 of the bridge and 256 of the
/// API, workers, a backup's files, and room. Each front bounds its own, so none takes those of another.
const NEEDED: u64 = 2048;
/// Descriptors that the store, the bridge, libp2p and workers may hold: those of a process that may open few, where the
/// API gets a part of the rest.
const WITHOUT_API: u64 = 768;
/// Fewest connections of the API: a browser's and some commands'.
const LEAST_API: usize = 16;

/// Raises the soft limit as far as a node may need and the hard limit allows. Warns when that is too little. Returns how
/// many connections the API may have.
pub fn raise(warnings: &Warnings) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let Some(wanted) = wanted(&limit) else { return spore_api::MAX_CONNECTIONS };
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    let now = if raised.is_ok() { wanted } else { limit.current.unwrap_or(NEEDED) };
    if now < NEEDED {
        let text = format!(
            "this process may open {now} files and connections at once, but may need {NEEDED}: it refuses peers when it has no more"
        );
        warnings.set(WarningTopic::Descriptors, text);
    }
    for_api(now)
}

/// Connections of the API in a process that may open `now` descriptors: half of what the others leave.
fn for_api(now: u64) -> usize {
    let rest = usize::try_from(now.saturating_sub(WITHOUT_API) / 2).unwrap_or(usize::MAX);
    rest.clamp(LEAST_API, spore_api::MAX_CONNECTIONS)
}

/// The soft limit to set. None where the present one is enough.
fn wanted(limit: &Rlimit) -> Option<u64> {
    let current = limit.current?;
    (current < NEEDED).then(|| limit.maximum.map_or(NEEDED, |most| most.min(NEEDED)).max(current))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_leaves_the_store_and_the_networks_their_descriptors() {
        assert_eq!(for_api(NEEDED), spore_api::MAX_CONNECTIONS);
        assert_eq!(for_api(1024), 128);
        assert_eq!(for_api(256), LEAST_API);
    }

    #[test]
    fn soft_limit_is_raised_to_what_is_needed_within_the_hard_one() {
        let wanted = |current, maximum| super::wanted(&Rlimit { current, maximum });
        assert_eq!(wanted(Some(256), Some(20_000)), Some(NEEDED));
        assert_eq!(wanted(Some(256), None), Some(NEEDED));
        assert_eq!(wanted(Some(256), Some(512)), Some(512));
        assert_eq!(wanted(Some(4096), Some(8192)), None);
        assert_eq!(wanted(None, None), None);
    }
}
