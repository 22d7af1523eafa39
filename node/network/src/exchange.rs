//! The open requests of one request-response protocol: who waits for which answer, and how many requests of others are
//! being answered.

use std::{collections::HashMap, io};

use ipnet::IpNet;
use libp2p::{
    PeerId,
    request_response::{
        Event, InboundFailure, InboundRequestId, Message, OutboundFailure, OutboundRequestId, ResponseChannel,
    },
};
use spore_protocol::Reject;
use tokio::sync::oneshot;

use super::{
    limits::{ANSWERING, ANSWERING_PER_HOST, ANSWERING_PER_PEER},
    messages::Malformed,
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
    /// Each with the peer and, where it counts, its host.
    answering: HashMap<InboundRequestId, (PeerId, Option<IpNet>)>,
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

    /// Takes in an event of the protocol. Returns a request that must be served or held against its sender. `host`: the
    /// host that a peer's requests count as, if any.
    pub fn on_event<Request>(
        &mut self,
        event: Event<Result<Request, Malformed>, Answer>,
        host: impl FnOnce(&PeerId) -> Option<IpNet>,
    ) -> Option<IncomingRequest<Request, Answer>> {
        match event {
            Event::Message { peer, message: Message::Request { request_id, request, channel }, .. } => {
                let request = match request {
                    Ok(request) => request,
                    // Dropping the channel ends the stream.
                    Err(Malformed(reason)) => return Some(IncomingRequest::Bad(peer, Reject::Malformed(reason))),
                };
                let host = host(&peer);
                if !self.has_room(&peer, host) {
                    // The peer asks again, or asks another.
                    return None;
                }
                self.answering.insert(request_id, (peer, host));
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

    fn has_room(&self, peer: &PeerId, host: Option<IpNet>) -> bool {
        let of_peer = self.answering.values().filter(|(other, _)| other == peer).count();
        let of_host = self.answering.values().filter(|(_, other)| host.is_some() && *other == host).count();
        self.answering.len() < ANSWERING && of_peer < ANSWERING_PER_PEER && of_host < ANSWERING_PER_HOST
    }

    fn finish(&mut self, id: OutboundRequestId, result: Result<Answer, NoAnswer>) {
        if let Some(sender) = self.asked.remove(&id) {
            // The job may have given up. Then nobody needs the answer.
            let _ = sender.send(result);
        }
    }
}

fn malformed<Request, Answer>(peer: PeerId, error: &io::Error) -> Option<IncomingRequest<Request, Answer>> {
    let malformed = error.kind() == io::ErrorKind::InvalidData;
    malformed.then(|| IncomingRequest::Bad(peer, Reject::Malformed(error.to_string())))
}
