//! Gossip: which topic an object is published on, and the judgement on what arrives.
//!
//! Nothing is passed on before `ingest` has accepted it; the judgement runs in a task of its own,
//! so that a slow store never stops the network.

use libp2p::PeerId;
use spore_ingest::{Disposition, Origin, Want};
use spore_protocol::{
    Kind, ObjectId, Reject, SignedObject, TaskId, object::MAX_OBJECT_BYTES, topic::Topic, wire::Message,
};

use super::{
    fetch,
    work::{Context, Verdict, Work},
};

/// The topics of an object: `task` is what the store says of it, used where the object itself
/// does not say, since receivers compare the topic with what it says.
pub fn topics(object: &SignedObject, task: Option<TaskId>) -> Vec<Topic> {
    match object {
        SignedObject::Experiment(record) => record.task_id.or(task).map(Topic::Record).into_iter().collect(),
        SignedObject::Control(event) => event.claimed_task().or(task).map(Topic::Control).into_iter().collect(),
        SignedObject::Task(manifest) => vec![Topic::Tasks, Topic::Manifest(manifest.id().into())],
        SignedObject::Profile(_) => vec![Topic::Profiles],
    }
}

/// Whether an object may come by a topic. Version 1 records and some events name no task: those
/// are let through, since what they belong to is derived, not believed.
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

/// Judges one message.
pub async fn judge(context: &Context, from: PeerId, topic: &str, data: &[u8]) -> Verdict {
    let Ok(topic) = topic.parse::<Topic>() else { return Verdict::Reject(Reject::WrongTopic) };
    match Message::decode(data) {
        Ok(Message::Object(object)) => judge_object(context, from, topic, object).await,
        Ok(Message::Announce { kind, id, size }) => judge_announcement(context, from, topic, kind, id, size).await,
        Err(reject) => Verdict::Reject(reject),
    }
}

async fn judge_object(context: &Context, from: PeerId, topic: Topic, object: SignedObject) -> Verdict {
    let (kind, id) = (object.kind(), object.id());
    if !belongs(topic, &object) {
        return refuse(context, kind, id, Reject::WrongTopic).await;
    }
    let Ok(disposition) = context.ingest.submit(Origin::Gossip(from), object).await else { return Verdict::Ignore };
    match disposition {
        Disposition::Rejected(Reject::BadSignature) => refuse(context, kind, id, Reject::BadSignature).await,
        Disposition::Accepted => Verdict::Accept,
        Disposition::Pending => Verdict::Held(id),
        Disposition::Rejected(reject) => Verdict::Reject(reject),
        Disposition::Known | Disposition::Failed(_) => Verdict::Ignore,
    }
}

/// Refuses a message that may only pretend to be an object: gossip takes both for one message, by
/// the object's id, and would pass over the real one until that is forgotten. So others are asked
/// whether there is one.
async fn refuse(context: &Context, kind: Kind, id: ObjectId, reject: Reject) -> Verdict {
    context.tell(Work::Want(Want { kind, id, from: None })).await;
    Verdict::Reject(reject)
}

/// Fetches an announced body from its announcer, who has accepted it or made it, and therefore has it.
async fn judge_announcement(
    context: &Context,
    from: PeerId,
    topic: Topic,
    kind: Kind,
    id: ObjectId,
    size: u64,
) -> Verdict {
    if !topic.carries(kind) {
        return refuse(context, kind, id, Reject::WrongTopic).await;
    }
    if size > MAX_OBJECT_BYTES as u64 {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        return refuse(context, kind, id, Reject::TooLarge { size, limit: MAX_OBJECT_BYTES }).await;
    }
    if fetch::not_had(context, kind, vec![id]).await.is_empty() {
        return Verdict::Ignore;
    }
    let fetched = fetch::objects(context, from, kind, vec![id], Origin::Gossip(from)).await;
    let verdict = match fetched {
        // A refusal has cost the peer its points by now; gossip only needs to drop the message.
        Ok(fetched) => match fetched.came.into_iter().next() {
            Some((_, Disposition::Accepted)) => return Verdict::Accept,
            Some((id, Disposition::Pending)) => return Verdict::Held(id),
            Some(_) => return Verdict::Ignore,
            None if fetched.absent.is_empty() => Verdict::Ignore,
            None => Verdict::Reject(Reject::Malformed("announced an object that it does not have".into())),
        },
        Err(_) => Verdict::Ignore,
    };
    context.tell(Work::Want(Want { kind, id, from: None })).await;
    verdict
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use spore_protocol::{Goal, Identity, TaskManifest};

    use super::*;
    use spore_ingest::Ingest;

    fn manifest() -> SignedObject {
        let identity = Identity::from_seed(&[1; 32]);
        let manifest = TaskManifest {
            name: "t".into(),
            description: String::new(),
            task_type: "ml_train".into(),
            artifact_type: "starlark_train_script".into(),
            metric: "val_bpb".into(),
            goal: Goal::Minimize,
            base_code_cid: None,
            prepare_cid: String::new(),
            dataset_cid: String::new(),
            time_budget: 1,
            created_by: identity.node_id(),
            timestamp: 1,
            version: 1,
        };
        SignedObject::Task(identity.sign(&manifest).unwrap().into_signed())
    }

    #[tokio::test]
    async fn what_is_refused_for_its_topic_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let store = spore_storage::Store::open(folder.path()).unwrap();
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let (ingest, _events, _wants, _door) = Ingest::spawn(store.clone(), Arc::new(|| 2), stopped);
        let (work, mut told) = tokio::sync::mpsc::channel(4);
        let context = Context { store, ingest, work };
        let object = manifest();
        let id = object.id();
        let announcement = Message::Announce { kind: Kind::Task, id, size: 1 };
        for message in [Message::of(object), announcement] {
            let bytes = message.encode().unwrap();
            let verdict = judge(&context, PeerId::random(), &Topic::Profiles.to_string(), &bytes).await;
            assert_eq!(verdict, Verdict::Reject(Reject::WrongTopic));
            assert!(matches!(told.try_recv(), Ok(Work::Want(want)) if want.id == id));
        }
    }

    #[test]
    fn a_manifest_goes_to_everybody_and_to_its_task() {
        let object = manifest();
        let task = TaskId(object.id().0);
        assert_eq!(topics(&object, None), [Topic::Tasks, Topic::Manifest(task)]);
        assert!(belongs(Topic::Tasks, &object) && belongs(Topic::Manifest(task), &object));
        assert!(!belongs(Topic::Manifest(TaskId([0; 32])), &object));
        assert!(!belongs(Topic::Record(task), &object));
    }
}
