//! Artifacts that the peer was asked for.

use std::time::Instant;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use spore_protocol::Cid;
use tokio::sync::oneshot;

use crate::{
    bans::Offence,
    limits::{CODE_PATIENCE, CODES_ASKED},
};

/// Told once: the artifact's bytes, or none.
pub(super) type Reply = oneshot::Sender<Option<Vec<u8>>>;

/// Who waits for which artifact.
#[derive(Debug, Default)]
pub(super) struct Codes(Vec<(Cid, Instant, Reply)>);

impl Codes {
    /// Notes that an artifact is waited for. True when the peer must be asked.
    pub fn want(&mut self, cid: Cid, reply: Reply, now: Instant) -> bool {
        if self.0.len() >= CODES_ASKED {
            let _ = reply.send(None);
            return false;
        }
        let asked = self.0.iter().any(|(other, ..)| *other == cid);
        self.0.push((cid, now, reply));
        !asked
    }

    /// The peer sent an artifact. What nobody waits for (any more) is passed over.
    pub fn came(&mut self, cid: Option<Cid>, code: &str) -> Option<Offence> {
        let cid = cid.filter(|cid| self.0.iter().any(|(wanted, ..)| wanted == cid))?;
        let bytes = STANDARD.decode(code).ok().filter(|bytes| Cid::of(bytes) == cid);
        let offence = bytes.is_none().then_some(Offence::Forged);
        self.answer(&cid, bytes);
        offence
    }

    /// The peer does not have it.
    pub fn absent(&mut self, cid: &Cid) {
        self.answer(cid, None);
    }

    /// Gives up what was waited for too long.
    pub fn expire(&mut self, now: Instant) {
        let over = |at: Instant| now.saturating_duration_since(at) >= CODE_PATIENCE;
        self.0.retain(|(_, at, reply)| !over(*at) && !reply.is_closed());
    }

    fn answer(&mut self, cid: &Cid, bytes: Option<Vec<u8>>) {
        let (waiting, rest) = std::mem::take(&mut self.0).into_iter().partition(|(wanted, ..)| wanted == cid);
        self.0 = rest;
        // Whoever waited may have gone away.
        waiting.into_iter().for_each(|(_, _, reply): (Cid, Instant, Reply)| drop(reply.send(bytes.clone())));
    }
}

/// An artifact as it travels.
pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
