//! Verification's choice in a real store: fakes of one key, of many keys, and dated ahead, beside honest records.

use spore_protocol::{Identity, Record, Verified, VerifiedObject, fixtures};

use super::*;
use crate::made_up::world::{World, key};

impl World {
    fn policy(&self) -> Policy {
        Policy { node: self.us.node_id(), class: World::class(), rate: 1.0, secret: [9; 32] }
    }

    /// A keep of `by`, not in the store.
    fn claim(&mut self, by: &Identity, metric: f64, ahead: u64) -> Verified<Record> {
        let root = self.root.clone();
        self.keep(by, &root, metric, ahead)
    }

    /// What a re-run of a record found.
    fn measure(&self, by: &Identity, record: &RecordSummary, value: f64) {
        self.challenge(by, record.id, record.timestamp, value);
    }

    /// Inserts a claim and returns it as it is stored.
    fn stored(&mut self, by: &Identity, metric: f64) -> RecordSummary {
        let claim = self.claim(by, metric, 0);
        self.insert(&[claim.clone().into()]);
        self.store.summary(&claim.id().into()).unwrap().unwrap()
    }

    /// The publishers of the records that are re-run next, until the honest one's turn comes. Each re-run of a fake
    /// finds 2.5.
    fn reruns_until(&self, honest: &Identity, most: usize) -> usize {
        let policy = self.policy();
        let task = self.store.task(&self.task).unwrap().unwrap();
        let (none, mut resting, mut turns) = (HashSet::new(), HashSet::new(), Turns::default());
        for before in 0..most {
            let next = loop {
                let look = Look {
                    store: &self.store,
                    policy: &policy,
                    task: &task,
                    skipped: &none,
                    resting: &resting,
                    now: 1_800_000_000,
                };
                match look.next(&mut turns).unwrap() {
                    Next::GoOn => {}
                    Next::Check(record) | Next::Respond(record) => break record,
                    Next::Nothing => panic!("nothing after {before}"),
                }
            };
            if next.node_id == honest.node_id() {
                return before;
            }
            self.measure(&self.us, &next, 2.5);
            if waits(&self.store.standing(&next.node_id, &policy.class).unwrap()) {
                resting.insert(next.node_id);
            }
        }
        most
    }
}

/// Fakes of these keys in turn, dated half an hour ahead, and one honest claim.
fn flooded(keys: u64, honest: &Identity) -> World {
    let mut world = World::of_us();
    let mut objects: Vec<VerifiedObject> =
        (0..1500).map(|number| world.claim(&key(number % keys), 0.0001, 1800).into()).collect();
    objects.push(world.claim(honest, 2.4, 0).into());
    world.insert(&objects);
    world
}

#[test]
fn fakes_of_one_key_dated_ahead_delay_an_honest_record_by_one_rerun() {
    let honest = fixtures::identity(7);
    let before = flooded(1, &honest).reruns_until(&honest, 10);
    println!("1,500 fakes of one key: {before} re-runs before the honest record");
    assert!(before <= 1, "{before}");
}

#[test]
fn fakes_of_many_keys_delay_a_known_publisher_by_one_rerun() {
    let honest = fixtures::identity(7);
    let mut world = flooded(1500, &honest);
    // Seeds confirmed some records of the honest publisher before.
    for number in 0..4 {
        let earlier = world.claim(&honest, 2.45 + f64::from(number) / 1000.0, 0);
        world.insert(&[earlier.clone().into()]);
        let record = world.store.summary(&earlier.id().into()).unwrap().unwrap();
        world.measure(&world.us, &record, record.metric);
    }
    let standing = world.store.standing(&honest.node_id(), &World::class()).unwrap();
    assert!(standing.weight > 0, "{standing:?}");
    let before = world.reruns_until(&honest, 10);
    println!("1,500 fakes of 1,500 keys: {before} re-runs before the record of a known publisher");
    assert!(before <= 1, "{before}");
}

#[test]
fn publishers_of_fifteen_hundred_keys_have_one_turn_each() {
    let honest = fixtures::identity(7);
    let before = flooded(300, &honest).reruns_until(&honest, 400);
    println!("1,500 fakes of 300 keys: {before} re-runs before the record of an unknown publisher");
    assert!(before <= 300, "{before}");
}

#[test]
fn measured_record_and_one_on_cooldown_are_not_run_again() {
    let mut world = World::of_us();
    let (publisher, policy) = (key(5), world.policy());
    let claim = world.claim(&publisher, 2.4, 0);
    world.insert(&[claim.clone().into()]);
    let task = world.store.task(&world.task).unwrap().unwrap();
    let next = |turns: &mut Turns, skipped: &HashSet<RecordId>| {
        let resting = HashSet::new();
        let look =
            Look { store: &world.store, policy: &policy, task: &task, skipped, resting: &resting, now: 1_800_000_000 };
        look.next(turns).unwrap()
    };
    let mut turns = Turns::default();
    let Next::Check(record) = next(&mut turns, &HashSet::new()) else { panic!("no record") };
    assert_eq!(record.id, claim.id().into());
    assert_eq!(next(&mut turns, &HashSet::from([record.id])), Next::Nothing, "on cooldown");
    world.measure(&world.us, &record, 2.5);
    assert_eq!(next(&mut turns, &HashSet::new()), Next::Nothing, "measured");
}

#[test]
fn disputes_take_at_most_every_second_rerun() {
    let mut world = World::of_us();
    let challengers = [key(1), key(2)];
    for challenger in &challengers {
        for number in 0..3 {
            let earlier = world.stored(challenger, 2.45 + f64::from(number) / 1000.0);
            world.measure(&world.us, &earlier, earlier.metric);
        }
    }
    for _ in 0..4 {
        let disputed = world.stored(&key(3), 2.4);
        challengers.iter().for_each(|challenger| world.measure(challenger, &disputed, 2.5));
    }
    (10..18).for_each(|number| drop(world.stored(&key(number), 2.4)));
    let policy = world.policy();
    let task = world.store.task(&world.task).unwrap().unwrap();
    let (mut skipped, resting, mut turns) = (HashSet::new(), HashSet::new(), Turns::default());
    let mut responses = Vec::new();
    for _ in 0..6 {
        let (store, now) = (&world.store, 1_800_000_000);
        let look = Look { store, policy: &policy, task: &task, skipped: &skipped, resting: &resting, now };
        let next = look.next(&mut turns).unwrap();
        responses.push(matches!(next, Next::Respond(_)));
        let (Next::Respond(record) | Next::Check(record)) = next else { panic!("nothing") };
        skipped.insert(record.id);
    }
    assert!(responses[0], "a dispute comes first");
    assert!(responses.windows(2).all(|pair| pair != [true, true]), "{responses:?}");
}

#[test]
fn best_claim_outside_the_sample_is_rerun_from_time_to_time() {
    let mut world = World::of_us();
    let claims: Vec<RecordSummary> =
        (0..40).map(|number| world.stored(&key(5), 2.4 + f64::from(number) / 1000.0)).collect();
    let task = world.store.task(&world.task).unwrap().unwrap();
    let (resting, mut turns) = (HashSet::new(), Turns::default());
    let next = |rate: f64, now: u64, skipped: &HashSet<RecordId>, turns: &mut Turns| {
        let policy = Policy { rate, ..world.policy() };
        let look = Look { store: &world.store, policy: &policy, task: &task, skipped, resting: &resting, now };
        match look.next(turns).unwrap() {
            Next::Check(record) => Some(record.id),
            _ => None,
        }
    };
    let (rate, now) = (1e-6, 1_800_000_000);
    assert_eq!(next(0.0, now, &HashSet::new(), &mut turns), None, "verification is off");
    assert_eq!(next(rate, now, &HashSet::new(), &mut turns), Some(claims[0].id));
    let done = HashSet::from([claims[0].id]);
    assert_eq!(next(rate, now + 10, &done, &mut turns), None, "too early");
    assert_eq!(next(rate, now + 1_000_000_000_000, &done, &mut turns), Some(claims[1].id));
}
