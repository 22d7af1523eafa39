//! Why the store does not take objects, shared by the second stage and the handles.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spore_storage::StoreError;

/// Why the store does not take every object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The store refuses writes. Lasts until a write succeeds.
    #[error("the store refuses writes (is the disk full?): free some space, and writing goes on within seconds")]
    Refusing,
    /// A part of the store is damaged. Lasts until the node stops, for no later write repairs it.
    #[error("{0}")]
    Damaged(StoreError),
}

/// The trouble now, if any. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct TroubleState(Arc<Mutex<Option<Trouble>>>);

impl TroubleState {
    fn lock(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a failure. True when the failure is news, so that it is logged once and not for each batch.
    pub(super) fn record(&self, failure: &StoreError) -> bool {
        let trouble = match failure {
            StoreError::Corrupt(_) => Trouble::Damaged(failure.clone()),
            _ => Trouble::Refusing,
        };
        let mut now = self.lock();
        let news = !matches!(&*now, Some(Trouble::Damaged(_))) && now.as_ref() != Some(&trouble);
        if news {
            *now = Some(trouble);
        }
        news
    }

    /// Records that a write succeeded. True when writes were refused before.
    pub(super) fn recovered(&self) -> bool {
        self.lock().take_if(|trouble| *trouble == Trouble::Refusing).is_some()
    }

    /// Whether the trouble may end by itself.
    pub(super) fn may_pass(&self) -> bool {
        *self.lock() == Some(Trouble::Refusing)
    }

    pub(super) fn now(&self) -> Option<Trouble> {
        self.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use spore_storage::Damage;

    use super::*;

    #[test]
    fn successful_write_clears_a_full_disk_but_not_damage() {
        let trouble = TroubleState::default();
        assert_eq!(trouble.now(), None);
        assert!(trouble.record(&StoreError::DiskFull) && !trouble.record(&StoreError::DiskFull));
        assert!(trouble.may_pass() && trouble.now().is_some_and(|now| now.to_string().contains("within seconds")));
        assert!(trouble.recovered() && !trouble.recovered());
        assert_eq!(trouble.now(), None);

        let damage = StoreError::Corrupt(Damage::Database("block checksum mismatch in 000012.sst".into()));
        trouble.record(&StoreError::DiskFull);
        assert!(trouble.record(&damage) && !trouble.record(&damage) && !trouble.record(&StoreError::DiskFull));
        assert!(!trouble.recovered() && !trouble.may_pass());
        assert!(trouble.now().unwrap().to_string().contains("000012.sst"));
        assert_eq!(trouble.now(), Some(Trouble::Damaged(damage)));
    }
}
