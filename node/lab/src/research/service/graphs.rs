//! The graphs of scripts: what a script computes, whatever its comments, its layout and its names.
//!
//! Kept in memory: after a restart the scripts are inspected again. Never here: inspecting.

use std::collections::{HashMap, VecDeque};

use spore_protocol::Cid;

/// Scripts whose graphs are remembered, of some 200 bytes each: more than one task's results that a round reads.
const SCRIPTS: usize = 4096;

/// The graph hashes of scripts that were inspected, the newest [`SCRIPTS`].
#[derive(Debug, Default)]
pub struct Graphs {
    hashes: HashMap<Cid, String>,
    /// The keys of `hashes`, the oldest first.
    order: VecDeque<Cid>,
}

impl Graphs {
    /// Notes a script's graph hash. An empty one stands for a script that the language refuses.
    pub fn insert(&mut self, script: Cid, hash: String) {
        if self.hashes.insert(script, hash).is_none() {
            self.order.push_back(script);
        }
        while self.order.len() > SCRIPTS {
            let Some(oldest) = self.order.pop_front() else { break };
            self.hashes.remove(&oldest);
        }
    }

    /// Whether the script was inspected.
    pub fn knows(&self, script: &Cid) -> bool {
        self.hashes.contains_key(script)
    }

    /// The script's graph hash, if it is known and the language takes the script.
    pub fn of(&self, script: &Cid) -> Option<&str> {
        self.hashes.get(script).map(String::as_str).filter(|hash| !hash.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_graphs_are_forgotten_and_a_refused_script_has_none() {
        let script = |number: usize| Cid::of(&number.to_be_bytes());
        let mut graphs = Graphs::default();
        for number in 0..=SCRIPTS {
            graphs.insert(script(number), number.to_string());
            graphs.insert(script(number), number.to_string());
        }
        assert_eq!((graphs.of(&script(0)), graphs.of(&script(1))), (None, Some("1")));
        graphs.insert(script(1), String::new());
        assert!(graphs.knows(&script(1)) && graphs.of(&script(1)).is_none());
    }
}
