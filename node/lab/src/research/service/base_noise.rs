//! Measures how noisy a task's results are in this node's hardware class: runs of the base script with several seeds.
//!
//! Research measures it once for each task, before its first change; a person may ask for more runs. Never here: what
//! follows from the noise ([`spore_protocol::noise`], [`crate::research::rule`]).

use std::collections::BTreeMap;

use spore_base::{progress::Purpose, shutdown::Shutdown};
use spore_protocol::{RecordId, TaskId, repeats::by_seed};
use spore_storage::ClassNoise;

use super::keep::publish_results;
use crate::engine::{Engine, EngineError, Order, Terms};

/// Runs that research makes by itself. With five the believable difference is within a third of that of many, and the
/// cost is that of five experiments.
pub const USUAL_RUNS: u32 = 5;
/// Most runs: each costs as much as an experiment.
pub const RUNS_MOST: u32 = 32;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    pub task: TaskId,
    /// Runs that shall be known, with those that this node made before.
    pub runs: u32,
    /// Steps of each run. None for as many as the base script makes in the task's time.
    pub steps: Option<u64>,
}

/// The runs of one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    pub steps: u64,
    /// By seed: new ones, and those that this node knew before.
    pub results: BTreeMap<u64, f64>,
    /// The noise of the class with these runs. None where too few are known.
    pub noise: Option<ClassNoise>,
}

/// Runs the base script of a task with several seeds, and publishes each result as it comes. Results that are known are
/// not run again.
///
/// # Errors
/// As [`Engine::train`], and [`EngineError::Task`] for a task that does not run here or has no root yet.
pub async fn measure(engine: &Engine, wish: Wish, shutdown: &mut Shutdown) -> Result<Measured, EngineError> {
    let task = wish.task;
    let terms = engine.terms(task).await?;
    let root = engine.read(move |store| Ok(store.task(&task)?.and_then(|view| view.root))).await?;
    let root = root.ok_or_else(|| EngineError::Task { task, reason: "its root has not arrived".into() })?;
    let script = engine.script(terms.base_code, Some(terms.manifest.created_by)).await?;
    let steps = match wish.steps {
        Some(steps) => Some(steps),
        None => known_steps(engine, &terms, root).await?,
    };
    let order = |steps, seed, of: u32| Order {
        terms: &terms,
        purpose: Purpose::Research,
        record: None,
        script: script.clone(),
        steps,
        seed_offset: seed,
        description: format!("noise: run {} of {of} of the base script", seed.saturating_add(1)),
    };
    let runs = wish.runs.clamp(1, RUNS_MOST);
    let mut results = match steps {
        Some(steps) => known(engine, root, steps).await?,
        None => BTreeMap::new(),
    };
    let mut steps = steps;
    for seed in 0..u64::from(runs) {
        if results.contains_key(&seed) {
            continue;
        }
        let result = engine.train(order(steps, seed, runs), shutdown).await?;
        let done = *steps.insert(result.num_steps);
        let new = BTreeMap::from([(seed, result.val_bpb)]);
        publish_results(engine, &terms, root, done, &new, shutdown).await?;
        results.extend(new);
    }
    let (steps, class) = (steps.unwrap_or_default(), engine.class());
    let noise = engine.read(move |store| store.noise(&task, &class, Some(steps))).await?;
    Ok(Measured { steps, results, noise })
}

/// Steps of the base script in the class: of this node's own repeats, else of the root.
async fn known_steps(engine: &Engine, terms: &Terms, root: RecordId) -> Result<Option<u64>, EngineError> {
    let (us, class, base) = (engine.node_id(), engine.class(), terms.base_code);
    engine
        .read(move |store| {
            let own = store.repeats(&root)?.into_iter().rfind(|r| r.node_id == us && r.class() == class);
            if let Some(own) = own {
                return Ok(Some(own.steps));
            }
            let root = store.summary(&root)?.filter(|root| root.class == class && root.code_cid == Some(base));
            Ok(root.filter(|root| root.node_id == us).map(|root| root.num_steps))
        })
        .await
}

/// Own results of the base script by seed.
async fn known(engine: &Engine, root: RecordId, steps: u64) -> Result<BTreeMap<u64, f64>, EngineError> {
    let (us, class) = (engine.node_id(), engine.class());
    let repeats = engine.read(move |store| store.repeats(&root)).await?;
    let own: Vec<_> = repeats.into_iter().filter(|repeats| repeats.node_id == us).collect();
    Ok(by_seed(&own, &class, steps))
}
