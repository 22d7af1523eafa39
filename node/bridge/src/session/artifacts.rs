//! Artifacts that the session has asked the peer for.

use std::time::Instant;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use spore_base::standing::Offence;
use spore_protocol::Cid;
use tokio::sync::oneshot;

use crate::limits::{ARTIFACT_PATIENCE, ARTIFACTS_ASKED};

/// Receives the bytes of an artifact, or None when the peer does not have it.
pub(super) type ArtifactReply = oneshot::Sender<Option<Vec<u8>>>;

/// The artifacts that were asked for: when, and for whom.
#[derive(Debug, Default)]
pub(super) struct ArtifactRequests(Vec<(Cid, Instant, ArtifactReply)>);

impl ArtifactRequests {
    /// Adds a request. True when the peer must be asked; false when it has been asked for that artifact already, or
    /// when there are too many requests.
    pub fn want(&mut self, cid: Cid, reply: ArtifactReply, now: Instant) -> bool {
        if self.0.len() >= ARTIFACTS_ASKED {
            let _ = reply.send(None);
            return false;
        }
        let asked = self.0.iter().any(|(other, ..)| *other == cid);
        self.0.push((cid, now, reply));
        !asked
    }

    /// The peer sent an artifact. An artifact that nobody waits for (any more) is ignored.
    pub fn received(&mut self, cid: Option<Cid>, code: &str) -> Option<Offence> {
        let cid = cid.filter(|cid| self.0.iter().any(|(wanted, ..)| wanted == cid))?;
        let bytes = STANDARD.decode(code).ok().filter(|bytes| Cid::of(bytes) == cid);
        let offence = bytes.is_none().then_some(Offence::Forged);
        self.answer(&cid, bytes);
        offence
    }

    /// The peer does not have the artifact.
    pub fn absent(&mut self, cid: &Cid) {
        self.answer(cid, None);
    }

    /// Drops the requests that have waited too long.
    pub fn expire(&mut self, now: Instant) {
        let over = |at: Instant| now.saturating_duration_since(at) >= ARTIFACT_PATIENCE;
        self.0.retain(|(_, at, reply)| !over(*at) && !reply.is_closed());
    }

    fn answer(&mut self, cid: &Cid, bytes: Option<Vec<u8>>) {
        for (_, _, reply) in self.0.extract_if(.., |(wanted, ..)| wanted == cid) {
            // The caller may have gone away.
            let _ = reply.send(bytes.clone());
        }
    }
}

/// The text form in which an artifact travels.
pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
