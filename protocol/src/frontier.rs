//! The frontier, version 2: the keeps of a task whose result holds and that no child has beaten, within
//! one hardware class. Claims are listed beside it.
//!
//! A store keeps the listings up to date with [`admits`] and [`beats`].

use crate::{Goal, HardwareClass, RecordId, Status, Verdict};

/// The facts about a record that decide on which listings it is. Stray records are on none and are left
/// out before.
#[derive(Clone, Debug, PartialEq)]
pub struct FrontierRecord {
    pub id: RecordId,
    pub parent: Option<RecordId>,
    pub status: Status,
    pub class: HardwareClass,
    /// The task's metric. Meaningless for a crash.
    pub metric: f64,
    /// Unix seconds.
    pub timestamp: u64,
    /// Whether the record has no [flaw](crate::terms::Flaw).
    pub comparable: bool,
    /// The verdict with the weights of one node's trust.
    pub local: Verdict,
    /// The verdict in which all signers weigh the same.
    pub global: Verdict,
}

/// One listing of a task's keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrontierKind {
    /// What holds by the local verdict. "The frontier" and "best" mean this one.
    Local(HardwareClass),
    /// What holds by the global verdict.
    Global(HardwareClass),
    /// What neither holds nor is rejected by the local verdict. Nothing beats anything here.
    Claims(HardwareClass),
    /// All keeps of all classes as claimed, as the reference computes it.
    Reference,
}

/// Whether a record can be on a listing. On all but the claims a better child that can be there too
/// takes it off.
pub fn admits(kind: &FrontierKind, record: &FrontierRecord) -> bool {
    let of_class = |class: &HardwareClass| record.comparable && record.class == *class;
    record.status == Status::Keep
        && match kind {
            FrontierKind::Local(class) => of_class(class) && record.local.holds(),
            FrontierKind::Global(class) => of_class(class) && record.global.holds(),
            FrontierKind::Claims(class) => of_class(class) && record.local.is_open(),
            FrontierKind::Reference => true,
        }
}

/// Whether `child` takes `parent` off a listing.
pub fn beats(kind: &FrontierKind, goal: Goal, child: &FrontierRecord, parent: &FrontierRecord) -> bool {
    !matches!(kind, FrontierKind::Claims(_))
        && child.parent == Some(parent.id)
        && admits(kind, child)
        && admits(kind, parent)
        && goal.better(child.metric, parent.metric)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oracle;

    const VERDICTS: [Verdict; 5] =
        [Verdict::Unverified, Verdict::Verified, Verdict::Disputed, Verdict::Upheld, Verdict::Rejected];

    fn records() -> impl Strategy<Value = Vec<FrontierRecord>> {
        let one = (0..20_u8, 0..3_usize, any::<bool>(), 0..6_u8, 0..5_usize, 0..5_usize, 0..8_u8);
        prop::collection::vec(one, 0..20).prop_map(|all| {
            let record = |(id, (parent, status, gpu, metric, local, global, flaw)): (u8, _)| FrontierRecord {
                id: RecordId([id; 32]),
                parent: (parent < id).then_some(RecordId([parent; 32])),
                status: Status::ALL[status],
                class: HardwareClass::of(if gpu { "H100" } else { "CPU" }),
                metric: f64::from(metric),
                timestamp: u64::from(metric % 2),
                comparable: flaw > 0,
                local: VERDICTS[local],
                global: VERDICTS[global],
            };
            (0_u8..).zip(all).map(record).collect()
        })
    }

    proptest! {
        #[test]
        fn listings_are_those_of_the_plain_definition(records in records(), maximize: bool, kind in 0..4_u8) {
            let cpu = HardwareClass::of("CPU");
            let kind = match kind {
                0 => FrontierKind::Local(cpu),
                1 => FrontierKind::Global(cpu),
                2 => FrontierKind::Claims(cpu),
                _ => FrontierKind::Reference,
            };
            let goal = if maximize { Goal::Maximize } else { Goal::Minimize };
            let beaten = |parent: &FrontierRecord| records.iter().any(|child| beats(&kind, goal, child, parent));
            let mut kept: Vec<_> = records.iter().filter(|r| admits(&kind, r) && !beaten(r)).map(|r| r.id).collect();
            let mut plain: Vec<_> = oracle::frontier(goal, &kind, &records).iter().map(|r| r.id).collect();
            kept.sort();
            plain.sort();
            prop_assert_eq!(kept, plain);
        }
    }
}
