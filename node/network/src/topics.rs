//! Which topics a peer may subscribe to: those with canonical names. gossipsub keeps every name of every peer, so ten peers
//! with names of any length took half a GiB. These have 90 bytes at most.
//!
//! libp2p does not tell a filter which peer asks, so the number of names has one bound for every peer
//! ([`crate::limits::MAX_SUBSCRIPTIONS`]), whether this node follows the tasks or not.

use libp2p::gossipsub::{TopicHash, TopicSubscriptionFilter};
use spore_protocol::topic::Topic;

/// Lets those names through that nodes write.
#[derive(Clone, Copy, Debug, Default)]
pub struct CanonicalTopics;

impl TopicSubscriptionFilter for CanonicalTopics {
    fn can_subscribe(&mut self, topic: &TopicHash) -> bool {
        topic.as_str().parse::<Topic>().is_ok_and(|parsed| parsed.to_string() == topic.as_str())
    }
}

#[cfg(test)]
mod tests {
    use spore_protocol::TaskId;

    use super::*;

    #[test]
    fn only_canonical_names_of_topics_are_noted() {
        let passes = |name: String| CanonicalTopics.can_subscribe(&TopicHash::from_raw(name));
        let topics = Topic::of_task(TaskId([0xab; 32])).into_iter().chain([Topic::Tasks, Topic::Profiles]);
        for topic in topics {
            assert!(passes(topic.to_string()) && topic.to_string().len() <= 90, "{topic}");
            assert!(
                !passes(format!("{topic}/"))
                    && !passes(format!("{topic} "))
                    && !passes(topic.to_string().to_uppercase())
            );
        }
        let upper = format!("/spore/1/task/{}/record", "AB".repeat(32));
        for name in [upper, "x".repeat(16_000), String::new(), format!("/spore/1/task/{}/other", "ab".repeat(32))] {
            assert!(!passes(name));
        }
    }
}
