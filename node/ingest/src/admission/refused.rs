//! The objects that were refused a moment ago, so that catch-up does not fetch them again at once.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use spore_protocol::{Kind, ObjectId};

use crate::deferral::Deferral;

/// Objects that are remembered, of about 120 bytes each. Beyond, the oldest are forgotten and may be fetched once more.
const REFUSED: usize = 16_384;
/// How long an object without room is left alone: half the time in which a newcomer's first record should get in.
const QUOTA_PAUSE: Duration = Duration::from_secs(30);
/// How long an object is left alone that is blocked, or for which there is no disk space. Only the operator changes that.
const BLOCKED_PAUSE: Duration = Duration::from_secs(10 * 60);

type Key = (Kind, ObjectId);

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

    pub fn add(&self, kind: Kind, id: ObjectId, deferral: Deferral, now: Instant) {
        let pause = match deferral {
            Deferral::Quota(_) => QUOTA_PAUSE,
            Deferral::Blocked | Deferral::NoSpace => BLOCKED_PAUSE,
            Deferral::Early { seconds } => Duration::from_secs(seconds).min(BLOCKED_PAUSE),
        };
        let mut inner = self.lock();
        if inner.until.insert((kind, id), now + pause).is_none() {
            inner.order.push_back((kind, id));
        }
        if inner.order.len() > REFUSED
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.until.remove(&oldest);
        }
    }

    pub fn contains(&self, kind: Kind, id: ObjectId, now: Instant) -> bool {
        self.lock().until.get(&(kind, id)).is_some_and(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QuotaName;

    #[test]
    fn refused_object_is_left_alone_for_a_while_within_bounds() {
        let (refused, now) = (Refused::default(), Instant::now());
        let id = |number: u32| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            ObjectId(id)
        };
        let quota = Deferral::Quota(QuotaName::Unknown);
        refused.add(Kind::Task, id(0), quota, now);
        assert!(refused.contains(Kind::Task, id(0), now) && !refused.contains(Kind::Experiment, id(0), now));
        assert!(!refused.contains(Kind::Task, id(0), now + QUOTA_PAUSE));
        for number in 1..=REFUSED as u32 {
            refused.add(Kind::Task, id(number), quota, now);
        }
        assert!(!refused.contains(Kind::Task, id(0), now));
        assert_eq!(refused.lock().until.len(), REFUSED);
    }
}
