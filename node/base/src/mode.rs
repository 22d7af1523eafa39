//! What a node does besides passing records on.

use std::fmt;

/// The mode in which a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The node runs experiments of its own, and re-runs some of others'.
    Research,
    /// The node only re-runs others' experiments.
    Verify,
    /// The node trains nothing.
    Relay,
}

impl Mode {
    /// The name that the API and the command line use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Research => "research",
            Self::Verify => "verify",
            Self::Relay => "relay",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
