//! Whether there is disk space for objects of other nodes. Something else measures it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// Whether there is disk space. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Space(Arc<AtomicBool>);

impl Space {
    pub fn is_short(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub fn set_short(&self, short: bool) {
        self.0.store(short, Relaxed);
    }
}
