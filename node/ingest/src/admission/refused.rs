//! The objects that were refused a moment ago, so that catch-up does not fetch them again at once.
//!
//! An object for which there was no room is remembered by who brought it: whoever has used up its quota says nothing about
//! the same object from others.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use spore_protocol::{Kind, ObjectId};

use super::introducers::Introducer;
use crate::deferral::Deferral;

/// Objects that are remembered, of about 150 bytes each. Beyond, the oldest are forgotten and may be fetched once more.
const REFUSED: usize = 16_384;
/// How long an object without room is left alone: half the time in which a newcomer's first record should get in.
const QUOTA_PAUSE: Duration = Duration::from_secs(30);
/// How long an object is left alone that is blocked, or for which there is no disk space. Only the operator changes that.
const BLOCKED_PAUSE: Duration = Duration::from_secs(10 * 60);

/// Without an introducer where the object is refused from everybody.
type Key = (Kind, ObjectId, Option<Introducer>);

/// Objects refused lately. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Refused(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    until: HashMap<Key, Instant>,
    order: VecDeque<Key>,
}

impl Refused {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that an object was refused, which `by` brought.
    pub fn add(&self, kind: Kind, id: ObjectId, by: Option<Introducer>, deferral: Deferral, now: Instant) {
        let key = (kind, id, by.filter(|_| matches!(deferral, Deferral::Quota(_))));
        let pause = match deferral {
            Deferral::Quota(_) => QUOTA_PAUSE,
            Deferral::Blocked | Deferral::NoSpace => BLOCKED_PAUSE,
            Deferral::Early { seconds } => Duration::from_secs(seconds).min(BLOCKED_PAUSE),
        };
        let mut inner = self.lock();
        if inner.until.insert(key, now + pause).is_none() {
            inner.order.push_back(key);
        }
        if inner.order.len() > REFUSED
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.until.remove(&oldest);
        }
    }

    /// Whether an object is left alone that `by` has.
    pub fn contains(&self, kind: Kind, id: ObjectId, by: Introducer, now: Instant) -> bool {
        let inner = self.lock();
        let refused = |by| inner.until.get(&(kind, id, by)).is_some_and(|until| now < *until);
        refused(None) || refused(Some(by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{QuotaName, SessionId, Source};

    #[test]
    fn refused_object_is_left_alone_for_a_while_within_bounds() {
        let (refused, now) = (Refused::default(), Instant::now());
        let id = |number: u32| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            ObjectId(id)
        };
        let quota = Deferral::Quota(QuotaName::Unknown);
        let by = |session| Introducer::Near(Source::Session(SessionId(session)));
        let contains = |kind, number, now| refused.contains(kind, id(number), by(1), now);
        refused.add(Kind::Task, id(0), Some(by(1)), quota, now);
        assert!(contains(Kind::Task, 0, now) && !contains(Kind::Experiment, 0, now));
        assert!(!contains(Kind::Task, 0, now + QUOTA_PAUSE));
        for number in 1..=REFUSED as u32 {
            refused.add(Kind::Task, id(number), Some(by(1)), quota, now);
        }
        assert!(!contains(Kind::Task, 0, now));
        assert_eq!(refused.lock().until.len(), REFUSED);
    }

    #[test]
    fn quota_of_one_introducer_does_not_hold_back_an_object_of_others() {
        let (refused, now, id) = (Refused::default(), Instant::now(), ObjectId([1; 32]));
        let by = |session| Introducer::Near(Source::Session(SessionId(session)));
        refused.add(Kind::Task, id, Some(by(1)), Deferral::Quota(QuotaName::Introducer), now);
        assert!(refused.contains(Kind::Task, id, by(1), now) && !refused.contains(Kind::Task, id, by(2), now));
        refused.add(Kind::Profile, id, Some(by(1)), Deferral::Blocked, now);
        assert!(refused.contains(Kind::Profile, id, by(2), now), "blocked, whoever brings it");
    }
}
