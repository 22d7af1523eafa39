//! Proposals made of earlier changes: crosses of the parent with other good scripts, and the parent without a part of its
//! change.
//!
//! Never here: the merging itself ([`crate::research::mixing`]).

use spore_base::{script_text, shutdown::Shutdown};
use spore_protocol::{Cid, RecordId, Status};
use spore_storage::RecordSummary;
use spore_trainer::worker::FailureKind;
use tracing::debug;

use super::{Researcher, snapshot::TaskSnapshot};
use crate::{
    engine::EngineError,
    research::{Proposal, mixing, record::Parent, tuner},
};

/// Good records that the parent is crossed with in one round, the best first. Each costs a trace at most.
const PARTNERS: usize = 6;
/// Ancestors among which a common one is looked for.
const ANCESTORS: usize = 64;
/// Of ten rounds, those that begin with a cross, and those that begin with an ablation.
const CROSSES: u64 = 2;
const ABLATIONS: u64 = 1;

/// The text of a script and the record that ran it.
type Source = (RecordId, String);

impl Researcher {
    /// A cross or an ablation in some rounds: `seed` chooses. None in the others, and when there is no new one.
    pub(super) async fn mix_sometimes(
        &mut self,
        snapshot: &TaskSnapshot,
        parent: &Parent,
        seed: u64,
        shutdown: &mut Shutdown,
    ) -> Result<Option<Proposal>, EngineError> {
        match seed % 10 {
            turn if turn < CROSSES => self.crossed(snapshot, parent, shutdown).await,
            turn if turn < CROSSES + ABLATIONS => self.ablated(snapshot, parent, seed / 10, shutdown).await,
            _ => Ok(None),
        }
    }

    /// A cross or an ablation, whichever is new.
    pub(super) async fn mix(
        &mut self,
        snapshot: &TaskSnapshot,
        parent: &Parent,
        seed: u64,
        shutdown: &mut Shutdown,
    ) -> Result<Option<Proposal>, EngineError> {
        match self.crossed(snapshot, parent, shutdown).await? {
            Some(proposal) => Ok(Some(proposal)),
            None => self.ablated(snapshot, parent, seed, shutdown).await,
        }
    }

    async fn crossed(
        &mut self,
        snapshot: &TaskSnapshot,
        parent: &Parent,
        shutdown: &mut Shutdown,
    ) -> Result<Option<Proposal>, EngineError> {
        let mut partners: Vec<RecordSummary> =
            snapshot.believed.iter().filter(|r| r.status == Status::Keep && r.id != parent.id).cloned().collect();
        partners.sort_by(|a, b| snapshot.goal.order(a.metric, b.metric).then(a.id.cmp(&b.id)));
        partners.truncate(PARTNERS);
        for partner in partners {
            let Some((base, other)) = self.with_base(parent.id, &partner).await? else { continue };
            let Some(script) = mixing::cross(&base, &parent.script, &other) else { continue };
            let proposal = Proposal {
                script,
                description: format!("cross with {}: {}", partner.id.short(), partner.description),
                hypothesis: "Two changes of different lines that each helped may help together.".into(),
                agent_model: tuner::AGENT.into(),
            };
            if let Some(proposal) = self.new_one(snapshot, parent, proposal, shutdown).await? {
                return Ok(Some(proposal));
            }
        }
        Ok(None)
    }

    async fn ablated(
        &mut self,
        snapshot: &TaskSnapshot,
        parent: &Parent,
        number: u64,
        shutdown: &mut Shutdown,
    ) -> Result<Option<Proposal>, EngineError> {
        let before = snapshot.record(parent.id).and_then(|record| record.parent);
        let Some(before) = before else { return Ok(None) };
        let Some((_, grandparent)) = self.source(before).await? else { return Ok(None) };
        let Some(script) = mixing::ablate(&grandparent, &parent.script, number) else { return Ok(None) };
        let proposal = Proposal {
            script,
            description: format!("{} without one part of its change", parent.id.short()),
            hypothesis: "A part of a change may do nothing, or harm.".into(),
            agent_model: tuner::AGENT.into(),
        };
        self.new_one(snapshot, parent, proposal, shutdown).await
    }

    /// The scripts of the nearest common ancestor of two records, and of the second one. None where they are not here.
    async fn with_base(&self, one: RecordId, other: &RecordSummary) -> Result<Option<(String, String)>, EngineError> {
        let id = other.id;
        let base = self
            .engine
            .read(move |store| {
                let ours = store.ancestors(&one, ANCESTORS)?;
                Ok(store.ancestors(&id, ANCESTORS)?.into_iter().find(|ancestor| ours.contains(ancestor)))
            })
            .await?;
        let Some(base) = base else { return Ok(None) };
        match (self.source(base).await?, self.source(id).await?) {
            (Some((_, base)), Some((_, other))) => Ok(Some((base, other))),
            _ => Ok(None),
        }
    }

    /// The script of a record, if it is here.
    async fn source(&self, id: RecordId) -> Result<Option<Source>, EngineError> {
        let bytes = self
            .engine
            .read(move |store| {
                let code = store.summary(&id)?.and_then(|record| record.code_cid);
                Ok(code.map(|code| store.artifact(&code)).transpose()?.flatten())
            })
            .await?;
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(text.map(|text| (id, script_text::normal(&text).text.into_owned())))
    }

    /// The proposal, if the language takes it and nothing like it was tried.
    pub(super) async fn new_one(
        &mut self,
        snapshot: &TaskSnapshot,
        parent: &Parent,
        proposal: Proposal,
        shutdown: &mut Shutdown,
    ) -> Result<Option<Proposal>, EngineError> {
        let cid = Cid::of(proposal.script.as_bytes());
        if self.refused.contains(&cid) || snapshot.tried.contains(&cid) {
            return Ok(None);
        }
        match self.engine.inspect(&proposal.script, shutdown).await {
            Ok(inspection) => match self.same_experiment(snapshot, parent, &inspection.graph_hash).await? {
                None => {
                    self.note_graph(cid, inspection.graph_hash, None).await?;
                    return Ok(Some(proposal));
                }
                // Such as a tunable on which nothing depends.
                Some(record) => {
                    debug!(change = %proposal.description, record = %record.short(), "not run: this experiment was tried");
                }
            },
            Err(EngineError::Script(failure)) if failure.kind != FailureKind::Deadline => {
                debug!(%failure, change = %proposal.description, "the language refuses a proposal");
            }
            Err(EngineError::Script(_)) => {}
            Err(error) => return Err(error),
        }
        self.refused.insert(cid);
        Ok(None)
    }
}
