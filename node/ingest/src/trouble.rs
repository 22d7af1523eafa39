//! Why the store did not take objects, as people are told: shared by the second stage and the handles.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spore_storage::StoreError;

/// For what ends when there is room again.
pub(super) const STORE_REFUSES: &str =
    "the store refuses writes (is the disk full?): free some space, and writing goes on within seconds";

/// The trouble now, if any.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<Kind>>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Until a write succeeds.
    Refusing,
    /// A part of the store is damaged, which no later write makes good: until the node ends.
    Damaged(String),
}

impl Trouble {
    fn now(&self) -> MutexGuard<'_, Option<Kind>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a failure; true where it is news, so that it is logged once and not for each batch.
    pub(super) fn note(&self, failure: &StoreError) -> bool {
        let kind = match failure {
            StoreError::Corrupt { .. } => Kind::Damaged(failure.to_string()),
            _ => Kind::Refusing,
        };
        let mut now = self.now();
        let news = match (&*now, &kind) {
            (Some(Kind::Damaged(_)), _) => false,
            (known, kind) => known.as_ref() != Some(kind),
        };
        if news {
            *now = Some(kind);
        }
        news
    }

    /// Notes that a write succeeded; true where none did before.
    pub(super) fn recovered(&self) -> bool {
        self.now().take_if(|kind| *kind == Kind::Refusing).is_some()
    }

    /// Whether it may end by itself.
    pub(super) fn may_pass(&self) -> bool {
        *self.now() == Some(Kind::Refusing)
    }

    /// For people.
    pub(super) fn told(&self) -> Option<String> {
        self.now().as_ref().map(|kind| match kind {
            Kind::Refusing => STORE_REFUSES.to_owned(),
            Kind::Damaged(what) => what.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_passes_and_damage_does_not() {
        let trouble = Trouble::default();
        assert_eq!(trouble.told(), None);
        assert!(trouble.note(&StoreError::DiskFull) && !trouble.note(&StoreError::DiskFull));
        assert!(trouble.may_pass() && trouble.told().is_some_and(|told| told.contains("within seconds")));
        assert!(trouble.recovered() && !trouble.recovered());
        assert_eq!(trouble.told(), None);

        let damage = StoreError::Corrupt { what: "block checksum mismatch in 000012.sst".into() };
        trouble.note(&StoreError::DiskFull);
        assert!(trouble.note(&damage) && !trouble.note(&damage) && !trouble.note(&StoreError::DiskFull));
        assert!(!trouble.recovered() && !trouble.may_pass());
        let told = trouble.told().unwrap();
        assert!(told.contains("000012.sst") && told.contains("spore db check --repair"), "{told}");
    }
}
