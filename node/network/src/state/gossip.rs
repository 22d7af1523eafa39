//! Gossip: which topics are followed, what is published, and what gossipsub is told about each message.
//!
//! A message is judged by a job beside the network task (`jobs::judge`), which asks the ingest service. Nothing is
//! forwarded before it has accepted the object.
//!
//! Never here: what is valid (`ingest`), how peers are scored (`behaviour`).

use std::collections::HashSet;

use libp2p::{
    PeerId,
    gossipsub::{MessageAcceptance, MessageId},
};
use spore_base::standing::Offence;
use spore_ingest::{Origin, StoreEvent};
use spore_protocol::{Kind, ObjectId, Reject, SignedObject, TaskId, topic::Topic, wire::Message};

use super::followed::{Followed, KnownTask, TopicChange};
use crate::limits::{FOLLOW_TICKS, HELD, PUBLISH_BURST, VALIDATING};

/// What gossipsub is answered about one message.
#[derive(Clone, Debug, PartialEq)]
pub enum Acceptance {
    /// Forward it.
    Accept,
    /// Do not forward it, and do not hold it against the sender.
    Ignore,
    /// As `Ignore`, for an object that waits for its parent or until it is due. Peers are told when it is stored.
    Held(ObjectId),
    /// Do not forward it. The sender loses points.
    Reject(Reject),
}

/// A message that waits for its acceptance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GossipMessage {
    pub id: MessageId,
    /// The peer that passed it on.
    pub from: PeerId,
    pub topic: String,
    pub data: Vec<u8>,
}

/// Events of this machine.
#[derive(Clone, Debug)]
pub enum GossipEvent {
    Received(GossipMessage),
    /// A message has been judged.
    Judged {
        message: MessageId,
        from: PeerId,
        acceptance: Acceptance,
    },
    /// gossipsub had forgotten an accepted message before it was told to forward it.
    AcceptedTooLate,
    /// gossipsub could not publish an object on one of its topics.
    NotPublished,
    /// The store has a new object. Boxed: it is much larger than the others.
    Stored(Box<StoreEvent>),
    /// The network fell behind, and missed some new objects of the store.
    StoreEventsMissed(u64),
    /// Tasks of the store that may be followed, those to be kept first.
    TasksKnown(Vec<KnownTask>),
    /// Somebody asked for a task.
    Follow(TaskId),
    Tick,
}

/// Effects of this machine.
#[derive(Clone, Debug, PartialEq)]
pub enum GossipEffect {
    Topic(TopicChange),
    /// Judge a message, and report it with [`GossipEvent::Judged`].
    Judge(GossipMessage),
    /// Report the acceptance of a message to gossipsub. If it has forgotten one that is to be forwarded, report
    /// [`GossipEvent::AcceptedTooLate`].
    Report {
        message: MessageId,
        from: PeerId,
        acceptance: MessageAcceptance,
    },
    /// Publish a message on each of these topics. For each failure, report [`GossipEvent::NotPublished`].
    Publish {
        topics: Vec<Topic>,
        bytes: Vec<u8>,
    },
    /// Read the tasks from the store, and report [`GossipEvent::TasksKnown`].
    ListTasks,
    /// The node follows a new task. What peers published before they knew of that did not come by gossip.
    Followed(TaskId),
    /// Some peers may lack an object that gossip does not bring them.
    NotEverywhere,
    Misbehaved(PeerId, Reject),
}

/// Followed tasks, and messages under way.
#[derive(Debug, Default)]
pub struct Gossip {
    followed: Followed,
    /// Ticks since the tasks of the store were looked at.
    ticks: u32,
    /// Messages being judged.
    judging: usize,
    /// Objects that came by gossip and wait for their parents, or until they are due.
    held: HashSet<ObjectId>,
    /// Objects published since the last tick.
    published: usize,
}

impl Gossip {
    /// Follows the tasks that the store knows, and what everybody follows. No task of these is new to this node, so
    /// none comes out as [`GossipEffect::Followed`].
    pub fn start(tasks: Vec<KnownTask>) -> (Self, Vec<GossipEffect>) {
        let mut gossip = Self::default();
        let mut topics = vec![TopicChange::Subscribe(Topic::Tasks), TopicChange::Subscribe(Topic::Profiles)];
        gossip.followed.refresh(&tasks, &mut topics);
        (gossip, topics.into_iter().map(GossipEffect::Topic).collect())
    }

    /// Number of followed tasks.
    pub fn followed(&self) -> usize {
        self.followed.all.len()
    }

    pub fn handle(&mut self, event: GossipEvent) -> Vec<GossipEffect> {
        let mut effects = Vec::new();
        match event {
            GossipEvent::Received(message) => effects.push(self.received(message)),
            GossipEvent::Judged { message, from, acceptance } => self.judged(message, from, acceptance, &mut effects),
            GossipEvent::AcceptedTooLate | GossipEvent::NotPublished => effects.push(GossipEffect::NotEverywhere),
            GossipEvent::Stored(event) => self.stored(&event, &mut effects),
            GossipEvent::StoreEventsMissed(missed) => {
                tracing::warn!(missed, "the network fell behind the store; peers catch up instead");
                effects.extend([GossipEffect::NotEverywhere, GossipEffect::ListTasks]);
            }
            GossipEvent::TasksKnown(tasks) => {
                let mut topics = Vec::new();
                let new = self.followed.refresh(&tasks, &mut topics);
                effects.extend(topics.into_iter().map(GossipEffect::Topic));
                new.into_iter().for_each(|task| announced(task, &mut effects));
            }
            GossipEvent::Follow(task) => {
                self.followed.asked.insert(task);
                self.discover(task, &mut effects);
            }
            GossipEvent::Tick => {
                self.published = 0;
                self.ticks += 1;
                if self.ticks >= FOLLOW_TICKS {
                    self.ticks = 0;
                    effects.push(GossipEffect::ListTasks);
                }
            }
        }
        effects
    }

    fn received(&mut self, message: GossipMessage) -> GossipEffect {
        if self.judging >= VALIDATING {
            tracing::debug!(from = %message.from, "too many messages are being judged; catch-up brings this one");
            let acceptance = MessageAcceptance::Ignore;
            return GossipEffect::Report { message: message.id, from: message.from, acceptance };
        }
        self.judging += 1;
        GossipEffect::Judge(message)
    }

    fn judged(&mut self, message: MessageId, from: PeerId, acceptance: Acceptance, effects: &mut Vec<GossipEffect>) {
        self.judging = self.judging.saturating_sub(1);
        let told = match &acceptance {
            Acceptance::Accept => MessageAcceptance::Accept,
            // An honest peer with another clock may forward what is too early for this node.
            Acceptance::Reject(reject) if Offence::of(reject) != Offence::FromTheFuture => MessageAcceptance::Reject,
            Acceptance::Ignore | Acceptance::Held(_) | Acceptance::Reject(_) => MessageAcceptance::Ignore,
        };
        effects.push(GossipEffect::Report { message, from, acceptance: told });
        match acceptance {
            Acceptance::Accept | Acceptance::Ignore => {}
            Acceptance::Held(id) if self.held.len() < HELD => {
                self.held.insert(id);
            }
            Acceptance::Held(_) => effects.push(GossipEffect::NotEverywhere),
            Acceptance::Reject(reject) => effects.push(GossipEffect::Misbehaved(from, reject)),
        }
    }

    fn stored(&mut self, event: &StoreEvent, effects: &mut Vec<GossipEffect>) {
        let task = event.change.task_id.or((event.change.kind == Kind::Task).then(|| event.change.id.into()));
        if let Some(task) = task {
            self.discover(task, effects);
        }
        match event.origin {
            Origin::Local | Origin::Import | Origin::Bridge(_) => self.publish(event, effects),
            // gossipsub forwards it, unless it had to wait here.
            Origin::Gossip(_) => {
                if self.held.remove(&event.change.id) {
                    effects.push(GossipEffect::NotEverywhere);
                }
            }
            Origin::Sync(_) => effects.push(GossipEffect::NotEverywhere),
        }
    }

    fn publish(&mut self, event: &StoreEvent, effects: &mut Vec<GossipEffect>) {
        if self.published >= PUBLISH_BURST {
            effects.push(GossipEffect::NotEverywhere);
            return;
        }
        self.published += 1;
        let topics = topics(&event.object, event.change.task_id);
        if let Ok(bytes) = Message::of(event.object.clone()).encode() {
            effects.push(GossipEffect::Publish { topics, bytes });
        }
    }

    fn discover(&mut self, task: TaskId, effects: &mut Vec<GossipEffect>) {
        let mut topics = Vec::new();
        let new = self.followed.follow(KnownTask { task, kept: false }, &mut topics);
        effects.extend(topics.into_iter().map(GossipEffect::Topic));
        if new {
            announced(task, effects);
        }
    }
}

fn announced(task: TaskId, effects: &mut Vec<GossipEffect>) {
    tracing::info!(%task, "following a task");
    effects.push(GossipEffect::Followed(task));
}

/// The topics of an object. `task`: the object's task as the store knows it, for an object that does not name one
/// itself. Where the object names one, receivers compare it with the topic.
fn topics(object: &SignedObject, task: Option<TaskId>) -> Vec<Topic> {
    match object {
        SignedObject::Experiment(record) => record.task_id.or(task).map(Topic::Record).into_iter().collect(),
        SignedObject::Control(event) => event.claimed_task().or(task).map(Topic::Control).into_iter().collect(),
        SignedObject::Task(manifest) => vec![Topic::Tasks, Topic::Manifest(manifest.id().into())],
        SignedObject::Profile(_) => vec![Topic::Profiles],
    }
}

#[cfg(test)]
mod tests {
    use spore_storage::Change;

    use super::*;
    use crate::limits::{MAX_TASKS, NEW_TASK_CHANGES, NEW_TASKS};
    use crate::tests::objects::manifest;

    fn stored(object: SignedObject, origin: Origin) -> GossipEvent {
        let change = Change { sequence: 1, kind: object.kind(), id: object.id(), task_id: None };
        GossipEvent::Stored(Box::new(StoreEvent { change, object, origin }))
    }

    fn received(n: u8) -> GossipMessage {
        GossipMessage { id: MessageId::new(&[n]), from: PeerId::random(), topic: String::new(), data: vec![n] }
    }

    fn following() -> (Gossip, SignedObject) {
        let object = manifest("followed");
        let (mut gossip, _) = Gossip::start(Vec::new());
        gossip.handle(GossipEvent::Follow(object.id().into()));
        (gossip, object)
    }

    #[test]
    fn manifest_goes_to_everybody_and_to_its_task() {
        let (mut gossip, object) = following();
        let expected = vec![Topic::Tasks, Topic::Manifest(object.id().into())];
        match gossip.handle(stored(object, Origin::Local)).as_slice() {
            [GossipEffect::Publish { topics, .. }] => assert_eq!(*topics, expected),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn task_is_followed_once_and_its_topics_are_bounded() {
        let (mut gossip, first) = Gossip::start(vec![KnownTask { task: TaskId([1; 32]), kept: false }]);
        let subscribed = |effects: &[GossipEffect]| {
            effects.iter().filter(|effect| matches!(effect, GossipEffect::Topic(TopicChange::Subscribe(_)))).count()
        };
        assert_eq!(subscribed(&first), 2 + Topic::of_task(TaskId([1; 32])).len());
        assert!(!first.contains(&GossipEffect::Followed(TaskId([1; 32]))));
        assert_eq!(gossip.handle(GossipEvent::Follow(TaskId([1; 32]))), []);
        let effects = gossip.handle(GossipEvent::Follow(TaskId([2; 32])));
        assert!(effects.contains(&GossipEffect::Followed(TaskId([2; 32]))));
        let many = (0..2 * MAX_TASKS as u32).map(|n| KnownTask { task: numbered(n), kept: n % 2 == 0 });
        gossip.handle(GossipEvent::TasksKnown(many.collect()));
        assert_eq!(gossip.followed(), MAX_TASKS);
    }

    fn numbered(number: u32) -> TaskId {
        TaskId(*spore_protocol::Cid::of(&number.to_be_bytes()).as_bytes())
    }

    fn follows(effects: &[GossipEffect], task: TaskId) -> bool {
        effects.contains(&GossipEffect::Topic(TopicChange::Subscribe(Topic::Record(task))))
    }

    #[test]
    fn tasks_with_confirmed_work_are_followed_behind_any_number_of_new_ones() {
        let (mut gossip, _) = Gossip::start(Vec::new());
        let confirmed: Vec<_> = (0..100).map(|n| KnownTask { task: numbered(n), kept: true }).collect();
        for new in 1000..1000 + 4 * MAX_TASKS as u32 {
            gossip.handle(GossipEvent::Follow(numbered(1)));
            gossip.handle(GossipEvent::TasksKnown(vec![KnownTask { task: numbered(new), kept: false }]));
        }
        assert_eq!(gossip.followed(), NEW_TASKS + 1);
        let effects = gossip.handle(GossipEvent::TasksKnown(confirmed.clone()));
        assert!(confirmed.iter().all(|known| known.task == numbered(1) || follows(&effects, known.task)));
        assert_eq!(gossip.followed(), NEW_TASKS + 100);
    }

    #[test]
    fn new_tasks_take_the_places_of_the_oldest_new_ones_a_few_at_a_time() {
        let (mut gossip, _) =
            Gossip::start((0..NEW_TASKS as u32).map(|n| KnownTask { task: numbered(n), kept: false }).collect());
        let one = numbered(1000);
        let effects = gossip.handle(GossipEvent::TasksKnown(vec![KnownTask { task: one, kept: false }]));
        assert!(follows(&effects, one) && effects.contains(&GossipEffect::Followed(one)));
        assert!(effects.contains(&GossipEffect::Topic(TopicChange::Unsubscribe(Topic::Record(numbered(0))))));
        let more = (2000..3000).map(|n| KnownTask { task: numbered(n), kept: false }).collect();
        let effects = gossip.handle(GossipEvent::TasksKnown(more));
        let followed = effects.iter().filter(|effect| matches!(effect, GossipEffect::Followed(_))).count();
        assert_eq!((followed, gossip.followed()), (NEW_TASK_CHANGES, NEW_TASKS));
    }

    #[test]
    fn task_gives_its_kept_place_back_when_nothing_in_it_holds_any_more_unless_it_was_asked_for() {
        let kept = |n, kept| KnownTask { task: numbered(n), kept };
        let (mut gossip, _) = Gossip::start(vec![kept(1, true), kept(2, true)]);
        gossip.handle(GossipEvent::Follow(numbered(2)));
        assert_eq!(gossip.handle(GossipEvent::TasksKnown(vec![kept(1, false), kept(2, false)])), []);
        let flood: Vec<_> = (1000..1000 + NEW_TASKS as u32).map(|n| kept(n, false)).collect();
        let effects = gossip.handle(GossipEvent::TasksKnown(flood));
        assert!(effects.contains(&GossipEffect::Topic(TopicChange::Unsubscribe(Topic::Record(numbered(1))))));
        assert!(!effects.contains(&GossipEffect::Topic(TopicChange::Unsubscribe(Topic::Record(numbered(2))))));
    }

    #[test]
    fn tasks_of_the_store_are_looked_at_once_a_minute() {
        let (mut gossip, _) = Gossip::start(Vec::new());
        let looks = (0..3 * FOLLOW_TICKS).flat_map(|_| gossip.handle(GossipEvent::Tick));
        assert_eq!(looks.filter(|effect| *effect == GossipEffect::ListTasks).count(), 3);
    }

    #[test]
    fn messages_beyond_the_bound_are_ignored_until_one_is_validated() {
        let (mut gossip, _) = following();
        for _ in 0..VALIDATING {
            assert!(matches!(gossip.handle(GossipEvent::Received(received(1))).as_slice(), [GossipEffect::Judge(_)]));
        }
        let one = received(2);
        let (message, from) = (one.id.clone(), one.from);
        let ignored = GossipEffect::Report { message, from, acceptance: MessageAcceptance::Ignore };
        assert_eq!(gossip.handle(GossipEvent::Received(one)), [ignored]);
        let one = received(1);
        gossip.handle(GossipEvent::Judged { message: one.id, from: one.from, acceptance: Acceptance::Ignore });
        assert!(matches!(gossip.handle(GossipEvent::Received(received(3))).as_slice(), [GossipEffect::Judge(_)]));
    }

    #[test]
    fn held_object_is_announced_when_it_is_stored() {
        let (mut gossip, object) = following();
        let from = PeerId::random();
        let held = Acceptance::Held(object.id());
        let effects = gossip.handle(GossipEvent::Judged { message: MessageId::new(&[1]), from, acceptance: held });
        assert!(matches!(effects.as_slice(), [GossipEffect::Report { acceptance: MessageAcceptance::Ignore, .. }]));
        let event = stored(object, Origin::Gossip(from));
        assert_eq!(gossip.handle(event.clone()), [GossipEffect::NotEverywhere]);
        assert_eq!(gossip.handle(event), [], "gossipsub forwards what did not wait");
    }

    #[test]
    fn burst_of_publications_is_left_to_catch_up() {
        let (mut gossip, object) = following();
        for _ in 0..PUBLISH_BURST {
            let effects = gossip.handle(stored(object.clone(), Origin::Local));
            assert!(matches!(effects.as_slice(), [GossipEffect::Publish { .. }]));
        }
        assert_eq!(gossip.handle(stored(object.clone(), Origin::Local)), [GossipEffect::NotEverywhere]);
        gossip.handle(GossipEvent::Tick);
        let effects = gossip.handle(stored(object, Origin::Import));
        assert!(matches!(effects.as_slice(), [GossipEffect::Publish { .. }]));
    }

    #[test]
    fn objects_of_a_catch_up_are_news_to_other_peers() {
        let (mut gossip, object) = following();
        assert_eq!(gossip.handle(stored(object, Origin::Sync(PeerId::random()))), [GossipEffect::NotEverywhere]);
    }

    #[test]
    fn rejected_message_costs_its_sender_points_and_an_early_one_is_ignored() {
        let (mut gossip, _) = following();
        let from = PeerId::random();
        for (reject, told) in [
            (Reject::BadSignature, MessageAcceptance::Reject),
            (Reject::FromTheFuture { ahead: 1 }, MessageAcceptance::Ignore),
        ] {
            let acceptance = Acceptance::Reject(reject.clone());
            let message = MessageId::new(&[1]);
            let effects = gossip.handle(GossipEvent::Judged { message: message.clone(), from, acceptance });
            let report = GossipEffect::Report { message, from, acceptance: told };
            assert_eq!(effects, [report, GossipEffect::Misbehaved(from, reject)]);
        }
    }
}
