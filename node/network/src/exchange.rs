//! The open requests of one request-response protocol: who waits for which answer, and how many requests of others are
//! being answered.

use std::{collections::HashMap, io};

use libp2p::{
    PeerId,
    request_response::{
        Event, InboundFailure, InboundRequestId, Message, OutboundFailure, OutboundRequestId, ResponseChannel,
    },
};
use spore_base::subnet::Subnet;
use spore_protocol::Reject;
use tokio::sync::oneshot;

use super::{
    limits::{ANSWERING, ANSWERING_BOUNDS, ANSWERING_PER_PEER},
    messages::Malformed,
    prefixes::full,
};

/// A request got no answer: the peer is gone, busy or silent, or does not speak the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer")]
pub struct NoAnswer;

/// Where the answer to a request goes.
pub type AnswerSender<Answer> = oneshot::Sender<Result<Answer, NoAnswer>>;

/// A peer's request.
#[derive(Debug)]
pub enum IncomingRequest<Request, Answer> {
    /// Answer this.
    Serve { peer: PeerId, request: Request, channel: ResponseChannel<Answer> },
    /// The peer sent bytes that are no message.
    Bad(PeerId, Reject),
}

/// One protocol's open requests in both directions.
#[derive(Debug)]
pub struct Exchange<Answer> {
    asked: HashMap<OutboundRequestId, AnswerSender<Answer>>,
    /// Each with the peer and, where they count, the prefixes of its address.
    answering: HashMap<InboundRequestId, (PeerId, Option<Subnet>)>,
}

impl<Answer> Default for Exchange<Answer> {
    fn default() -> Self {
        Self { asked: HashMap::new(), answering: HashMap::new() }
    }
}

impl<Answer> Exchange<Answer> {
    /// Remembers who waits for the answer. Bounded by the jobs that ask.
    pub fn asked(&mut self, id: OutboundRequestId, sender: AnswerSender<Answer>) {
        self.asked.insert(id, sender);
    }

    /// Takes in an event of the protocol. Returns a request that must be served or held against its sender. `subnet`: the
    /// prefixes that a peer's requests count for, if any.
    pub fn on_event<Request>(
        &mut self,
        event: Event<Result<Request, Malformed>, Answer>,
        subnet: impl FnOnce(&PeerId) -> Option<Subnet>,
    ) -> Option<IncomingRequest<Request, Answer>> {
        match event {
            Event::Message { peer, message: Message::Request { request_id, request, channel }, .. } => {
                let request = match request {
                    Ok(request) => request,
                    // Dropping the channel ends the stream.
                    Err(Malformed(reason)) => return Some(IncomingRequest::Bad(peer, Reject::Malformed(reason))),
                };
                let subnet = subnet(&peer);
                if !self.has_room(&peer, subnet) {
                    // The peer asks again, or asks another.
                    return None;
                }
                self.answering.insert(request_id, (peer, subnet));
                Some(IncomingRequest::Serve { peer, request, channel })
            }
            Event::Message { message: Message::Response { request_id, response }, .. } => {
                self.finish(request_id, Ok(response));
                None
            }
            Event::OutboundFailure { peer, request_id, error, .. } => {
                self.finish(request_id, Err(NoAnswer));
                match error {
                    OutboundFailure::Io(error) => malformed(peer, &error),
                    _ => None,
                }
            }
            Event::InboundFailure { peer, request_id, error, .. } => {
                self.answering.remove(&request_id);
                match error {
                    InboundFailure::Io(error) => malformed(peer, &error),
                    _ => None,
                }
            }
            Event::ResponseSent { request_id, .. } => {
                self.answering.remove(&request_id);
                None
            }
        }
    }

    fn has_room(&self, peer: &PeerId, subnet: Option<Subnet>) -> bool {
        has_room(self.answering.values(), peer, subnet)
    }

    fn finish(&mut self, id: OutboundRequestId, result: Result<Answer, NoAnswer>) {
        if let Some(sender) = self.asked.remove(&id) {
            // The job may have given up. Then nobody needs the answer.
            let _ = sender.send(result);
        }
    }
}

/// Whether one more request of a peer is answered beside these.
fn has_room<'a>(
    answering: impl ExactSizeIterator<Item = &'a (PeerId, Option<Subnet>)> + Clone,
    peer: &PeerId,
    subnet: Option<Subnet>,
) -> bool {
    let of_peer = answering.clone().filter(|(other, _)| other == peer).count();
    answering.len() < ANSWERING
        && of_peer < ANSWERING_PER_PEER
        && full(answering.filter_map(|(_, subnet)| subnet.as_ref()), subnet, |_| Some(ANSWERING_BOUNDS)).is_none()
}

fn malformed<Request, Answer>(peer: PeerId, error: &io::Error) -> Option<IncomingRequest<Request, Answer>> {
    let malformed = error.kind() == io::ErrorKind::InvalidData;
    malformed.then(|| IncomingRequest::Bad(peer, Reject::Malformed(error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(address: &str) -> Option<Subnet> {
        Some(Subnet::of(address.parse().unwrap()))
    }

    /// How many requests are answered at once that come from these addresses in turn, each by a key of its own.
    fn answered(addresses: &[String]) -> Vec<(PeerId, Option<Subnet>)> {
        let mut answering = Vec::new();
        for address in addresses.iter().cycle().take(4 * ANSWERING) {
            let peer = PeerId::random();
            if has_room(answering.iter(), &peer, subnet(address)) {
                answering.push((peer, subnet(address)));
            }
        }
        answering
    }

    #[test]
    fn subnet_and_site_of_many_hosts_leave_answers_to_others() {
        let hosts: Vec<_> = (0..8).map(|host| format!("2001:db8:0:{host:x}::1")).collect();
        let subnets: Vec<_> = (0..8).map(|subnet| format!("2001:db8:0:{subnet:x}00::1")).collect();
        for (addresses, most) in [
            (&hosts[..1], ANSWERING_BOUNDS.host),
            (&hosts[..], ANSWERING_BOUNDS.subnet),
            (&subnets[..], ANSWERING_BOUNDS.site),
        ] {
            let answering = answered(addresses);
            assert_eq!(answering.len(), most, "{addresses:?}");
            assert!(has_room(answering.iter(), &PeerId::random(), subnet("2001:db8:1::1")));
            assert!(has_room(answering.iter(), &PeerId::random(), None), "a peer without a public address");
        }
    }
}
