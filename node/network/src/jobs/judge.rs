//! Whether gossip forwards a message: the object must belong to the topic, and `ingest` must accept it.

use libp2p::PeerId;
use spore_ingest::{Deferral, Disposition, Origin, Want};
use spore_protocol::{
    Kind, ObjectId, Reject, SignedObject, TaskId, signed::MAX_OBJECT_BYTES, topic::Topic, wire::Message,
};

use super::{JobContext, objects};
use crate::state::{Acceptance, GossipMessage};

/// Judges one message.
pub async fn judge(context: &JobContext, message: &GossipMessage) -> Acceptance {
    let Ok(topic) = message.topic.parse::<Topic>() else { return Acceptance::Reject(Reject::WrongTopic) };
    match Message::decode(&message.data) {
        Ok(Message::Object(object)) => judge_object(context, message.from, topic, object).await,
        Ok(Message::Announce { kind, id, size }) => {
            judge_announcement(context, message.from, topic, kind, id, size).await
        }
        Err(reject) => Acceptance::Reject(reject),
    }
}

async fn judge_object(context: &JobContext, from: PeerId, topic: Topic, object: SignedObject) -> Acceptance {
    let (kind, id) = (object.kind(), object.id());
    if !belongs(topic, &object) {
        return refuse(context, kind, id, Reject::WrongTopic).await;
    }
    let Ok(disposition) = context.ingest.submit(Origin::Gossip(from), object).await else {
        return Acceptance::Ignore;
    };
    match disposition {
        Disposition::Rejected(Reject::BadSignature) => refuse(context, kind, id, Reject::BadSignature).await,
        Disposition::Accepted => Acceptance::Accept,
        Disposition::Pending | Disposition::Later(Deferral::Early { .. }) => Acceptance::Held(id),
        Disposition::Rejected(reject) => Acceptance::Reject(reject),
        Disposition::Known | Disposition::Later(_) | Disposition::Failed(_) => Acceptance::Ignore,
    }
}

/// Whether an object may come by a topic. Version 1 records and some events name no task. They are accepted here: their
/// task is derived from what they refer to.
fn belongs(topic: Topic, object: &SignedObject) -> bool {
    let same = |claimed: Option<TaskId>, task| claimed.is_none_or(|claimed| claimed == task);
    topic.carries(object.kind())
        && match (topic, object) {
            (Topic::Record(task), SignedObject::Experiment(record)) => same(record.task_id, task),
            (Topic::Control(task), SignedObject::Control(event)) => same(event.claimed_task(), task),
            (Topic::Manifest(task), SignedObject::Task(manifest)) => manifest.id().0 == task.0,
            _ => true,
        }
}

/// Refuses a message that may only pretend to be an object. gossipsub takes it and the real object for one message,
/// since both have the object's id, and drops the real one for some minutes. So the network asks other peers for it.
async fn refuse(context: &JobContext, kind: Kind, id: ObjectId, reject: Reject) -> Acceptance {
    context.want(Want { kind, id, from: None }).await;
    Acceptance::Reject(reject)
}

/// Fetches an announced object from its announcer, who made or accepted it and therefore has it.
async fn judge_announcement(
    context: &JobContext,
    from: PeerId,
    topic: Topic,
    kind: Kind,
    id: ObjectId,
    size: u64,
) -> Acceptance {
    if !topic.carries(kind) {
        return refuse(context, kind, id, Reject::WrongTopic).await;
    }
    if size > MAX_OBJECT_BYTES as u64 {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        return refuse(context, kind, id, Reject::TooLarge { size, limit: MAX_OBJECT_BYTES }).await;
    }
    if objects::missing(context, from, kind, vec![id]).await.is_empty() {
        return Acceptance::Ignore;
    }
    let fetched = objects::fetch(context, from, kind, vec![id], Origin::Gossip(from)).await;
    let acceptance = match fetched {
        // A rejected object has cost the peer its points by now. gossipsub only needs to drop the message.
        Ok(fetched) => match fetched.came.into_iter().next() {
            Some((_, Disposition::Accepted)) => return Acceptance::Accept,
            Some((id, Disposition::Pending | Disposition::Later(Deferral::Early { .. }))) => {
                return Acceptance::Held(id);
            }
            Some(_) => return Acceptance::Ignore,
            None if fetched.absent.is_empty() => Acceptance::Ignore,
            None => Acceptance::Reject(Reject::Malformed("announced an object that it does not have".into())),
        },
        Err(_) => Acceptance::Ignore,
    };
    context.want(Want { kind, id, from: None }).await;
    acceptance
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use libp2p::gossipsub::MessageId;
    use spore_ingest::{Ingest, blocks::BlockList};

    use super::*;
    use crate::{
        jobs::JobMessage,
        state::{FetchEvent, NetworkEvent},
        tests::objects::manifest,
    };

    #[tokio::test]
    async fn object_refused_for_its_topic_is_asked_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let store = spore_storage::Store::open(folder.path()).unwrap();
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let (ingest, _events, _wants, _ingesting) = Ingest::spawn(store.clone(), Arc::new(|| 2), stopped);
        let (messages, mut sent) = tokio::sync::mpsc::channel(4);
        let context = crate::tests::support::context(store, ingest, messages);
        let object = manifest("t");
        let id = object.id();
        let announcement = Message::Announce { kind: Kind::Task, id, size: 1 };
        for message in [Message::of(object), announcement] {
            let (topic, data) = (Topic::Profiles.to_string(), message.encode().unwrap());
            let message = GossipMessage { id: MessageId::new(&[1]), from: PeerId::random(), topic, data };
            assert_eq!(judge(&context, &message).await, Acceptance::Reject(Reject::WrongTopic));
            match sent.try_recv() {
                Ok(JobMessage::Event(NetworkEvent::Fetch(FetchEvent::Want(want)))) => assert_eq!(want.id, id),
                _ => panic!("not asked for"),
            }
        }
    }

    #[tokio::test]
    async fn object_without_room_is_ignored_and_asked_of_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let store = spore_storage::Store::open(folder.path()).unwrap();
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let (ingest, _events, _wants, _ingesting) = Ingest::spawn(store.clone(), Arc::new(|| 2), stopped);
        let (messages, mut sent) = tokio::sync::mpsc::channel(4);
        let object = manifest("t");
        let (kind, id) = (object.kind(), object.id());
        let list = BlockList { signers: [object.signer()].into(), ..BlockList::default() };
        ingest.blocks().set(list);
        let context = crate::tests::support::context(store, ingest, messages);
        let (topic, data) = (Topic::Tasks.to_string(), Message::of(object).encode().unwrap());
        let message = GossipMessage { id: MessageId::new(&[1]), from: PeerId::random(), topic, data };
        assert_eq!(judge(&context, &message).await, Acceptance::Ignore);
        assert!(sent.try_recv().is_err(), "no points, no question");
        assert!(
            objects::missing(&context, message.from, kind, vec![id]).await.is_empty(),
            "catch-up leaves it alone for a while"
        );
    }

    #[test]
    fn object_belongs_to_the_topics_of_its_kind_and_task() {
        let object = manifest("t");
        let task = TaskId(object.id().0);
        assert!(belongs(Topic::Tasks, &object) && belongs(Topic::Manifest(task), &object));
        assert!(!belongs(Topic::Manifest(TaskId([0; 32])), &object));
        assert!(!belongs(Topic::Record(task), &object));
    }
}
