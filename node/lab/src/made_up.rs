//! What tests of the lab make up: a record for the pure rules, and a task in a store.

#[cfg(feature = "trainer")]
pub mod world;

use spore_protocol::{Cid, HardwareClass, NodeId, RecordId, Status, TaskId, Verdict, verdict::Support};
use spore_storage::RecordSummary;

/// A keep of this device by `publisher` that nobody has measured.
pub fn summary(id: RecordId, publisher: NodeId, device: &str, metric: f64) -> RecordSummary {
    RecordSummary {
        id,
        task_id: TaskId([8; 32]),
        parent: None,
        depth: 0,
        status: Status::Keep,
        class: HardwareClass::of(device),
        metric,
        node_id: publisher,
        timestamp: 100,
        received_at: 100,
        sequence: 1,
        num_steps: 50,
        num_params: 10,
        peak_vram_mb: 1.0,
        time_budget: 20,
        code_cid: Some(Cid([4; 32])),
        gpu_model: device.into(),
        description: String::new(),
        hypothesis: String::new(),
        agent_model: String::new(),
        version: 2,
        verdict: Verdict::Unverified,
        global_verdict: Verdict::Unverified,
        support: Support::default(),
        flaw: None,
        on_frontier: false,
        on_global_frontier: false,
        on_reference_frontier: true,
        stray: false,
        odd_depth: false,
    }
}
