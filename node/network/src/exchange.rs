//! Book-keeping of one request-response protocol: who waits for which answer, and how many
//! requests of others are being answered.

use std::{collections::HashMap, io};

use libp2p::{
    PeerId,
    request_response::{
        Event, InboundFailure, InboundRequestId, Message, OutboundFailure, OutboundRequestId, ResponseChannel,
    },
};
use spore_protocol::Reject;
use tokio::sync::oneshot;

use super::limits::{ANSWERING, ANSWERING_PER_PEER};

/// A request that got no answer: the peer is gone, busy, silent, or does not speak the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer")]
pub struct Lost;

/// Told to whoever asked.
pub type Reply<Answer> = oneshot::Sender<Result<Answer, Lost>>;

/// What the network task must see to.
#[derive(Debug)]
pub enum Incoming<Request, Answer> {
    /// Answer this.
    Serve { peer: PeerId, request: Request, channel: ResponseChannel<Answer> },
    /// The peer sent bytes that are no message.
    Bad(PeerId, Reject),
}

/// One protocol's requests in both directions.
#[derive(Debug)]
pub struct Exchange<Answer> {
    asked: HashMap<OutboundRequestId, Reply<Answer>>,
    answering: HashMap<InboundRequestId, PeerId>,
}

impl<Answer> Default for Exchange<Answer> {
    fn default() -> Self {
        Self { asked: HashMap::new(), answering: HashMap::new() }
    }
}

impl<Answer> Exchange<Answer> {
    /// Remembers who waits for the answer. Bounded by the askers: sessions, wants and fetches.
    pub fn asked(&mut self, id: OutboundRequestId, reply: Reply<Answer>) {
        self.asked.insert(id, reply);
    }

    /// Takes in what libp2p says.
    pub fn on_event<Request>(&mut self, event: Event<Request, Answer>) -> Option<Incoming<Request, Answer>> {
        match event {
            Event::Message { peer, message: Message::Request { request_id, request, channel }, .. } => {
                let of_peer = self.answering.values().filter(|other| **other == peer).count();
                if self.answering.len() >= ANSWERING || of_peer >= ANSWERING_PER_PEER {
                    // Dropping the channel ends the stream: the peer asks again, or another.
                    return None;
                }
                self.answering.insert(request_id, peer);
                Some(Incoming::Serve { peer, request, channel })
            }
            Event::Message { message: Message::Response { request_id, response }, .. } => {
                self.finish(request_id, Ok(response));
                None
            }
            Event::OutboundFailure { peer, request_id, error, .. } => {
                self.finish(request_id, Err(Lost));
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

    fn finish(&mut self, id: OutboundRequestId, result: Result<Answer, Lost>) {
        if let Some(reply) = self.asked.remove(&id) {
            // Whoever asked may have given up: then nobody needs the answer.
            let _ = reply.send(result);
        }
    }
}

fn malformed<Request, Answer>(peer: PeerId, error: &io::Error) -> Option<Incoming<Request, Answer>> {
    (error.kind() == io::ErrorKind::InvalidData).then(|| Incoming::Bad(peer, Reject::Malformed(error.to_string())))
}
