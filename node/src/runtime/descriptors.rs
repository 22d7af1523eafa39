//! The number of files and connections that the operating system lets this process open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use spore_base::warnings::{WarningTopic, Warnings};

/// Descriptors that a node may need: 256 files of the store, 320 connections of libp2p, 96 of the bridge and 128 of the
/// API, workers, a backup's files, and room.
const NEEDED: u64 = 2048;

/// Raises the soft limit as far as a node may need and the hard limit allows. Warns when that is too little.
pub fn raise(warnings: &Warnings) {
    let limit = getrlimit(Resource::Nofile);
    let Some(wanted) = wanted(&limit) else { return };
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    let now = if raised.is_ok() { wanted } else { limit.current.unwrap_or(NEEDED) };
    if now < NEEDED {
        let text = format!(
            "this process may open {now} files and connections at once, but may need {NEEDED}: it refuses peers before"
        );
        warnings.set(WarningTopic::Descriptors, text);
    }
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
    fn soft_limit_is_raised_to_what_is_needed_within_the_hard_one() {
        let wanted = |current, maximum| super::wanted(&Rlimit { current, maximum });
        assert_eq!(wanted(Some(256), Some(20_000)), Some(NEEDED));
        assert_eq!(wanted(Some(256), None), Some(NEEDED));
        assert_eq!(wanted(Some(256), Some(512)), Some(512));
        assert_eq!(wanted(Some(4096), Some(8192)), None);
        assert_eq!(wanted(None, None), None);
    }
}
