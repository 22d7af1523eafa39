//! What the research service does while it trains nothing, and why. The API displays it.
//!
//! Never here: how it is displayed, or the progress of the running experiment ([`crate::progress`]).

use std::time::Instant;

/// What the research service does at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ResearchState {
    /// This node does no research.
    #[default]
    Off,
    /// A round runs: it chooses a task and a change, or it trains.
    Choosing,
    /// A round failed or published a crash. The next round begins at `until`.
    BackingOff { until: Instant, reason: String },
    /// There is nothing to do, for this reason: such as no task that this node can run. News begin the next round.
    Waiting { reason: String },
}
