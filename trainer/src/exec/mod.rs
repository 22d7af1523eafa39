//! Running a graph with burn: forward, gradients, update.
//!
//! In one step, [`Executor::step`] computes the [`shards`] of a batch side by side on [`lanes`]. For
//! each, a [`pass`] runs the nodes forward, then backward from the gradient of the cross-entropy.
//! [`optimizer`] changes the parameters by the sums. The
//! [`plan`], made beforehand, says when each value is dropped. Each operation computes its own
//! node ([`ops`](crate::ops)).
//!
//! Never here: Starlark, files, or a clock outside [`train`]. The same graph, seed and batches on
//! the CPU give the same parameters to the bit, whatever the number of threads.

mod lanes;
mod optimizer;
mod pass;
mod plan;
mod random;
mod shards;
#[cfg(test)]
mod tests;
pub mod train;

use std::sync::Mutex;

use burn::tensor::{Device, Int, Tensor};
use rand_chacha::ChaCha8Rng;

use crate::data::TrainingBatch;
use crate::evaluate::{Predictor, VOCAB};
use crate::graph::Graph;
use crate::ops::shard::Shard;
use crate::ops::tensors::{DeviceValue, one_hot, padded, rows, upload, upload_bytes};
use crate::ops::{ConstantPair, Located, Malformed, Operation, TableKey};
use optimizer::ParamUpdate;
use optimizer::multiplier;
use pass::{Environment, Pass};
use random::{StreamPurpose, stream};
use shards::{Partial, PlannedGraph, Shards, summed};

/// Why a graph cannot run.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExecError {
    /// The graph breaks a rule that tracing guarantees.
    #[error(transparent)]
    Graph(#[from] Malformed),
    /// burn could not return a value.
    #[error("the device failed: {0}")]
    Device(String),
}

/// A graph with its parameters on a device.
pub struct Executor {
    whole: PlannedGraph,
    shards: Shards,
    device: Device,
    seed: u64,
    params: Vec<DeviceValue>,
    update: ParamUpdate,
    dropout: ChaCha8Rng,
    data: ChaCha8Rng,
}

impl Executor {
    /// An executor whose parameters have their initial values for `seed`.
    pub fn new(graph: Graph, device: Device, seed: u64) -> Self {
        let mut executor = Self {
            update: ParamUpdate::new(&graph),
            shards: Shards::new(&graph, &device),
            params: Vec::new(),
            dropout: stream(seed, StreamPurpose::Dropout),
            data: stream(seed, StreamPurpose::Data),
            whole: PlannedGraph::new(graph, &device),
            device,
            seed,
        };
        executor.reset();
        executor
    }

    /// Returns to the state after [`Executor::new`].
    pub fn reset(&mut self) {
        let initial = self.whole.graph.params.iter().enumerate().map(|(i, param)| {
            let dims = padded(&param.shape);
            let mut rng = stream(self.seed, StreamPurpose::Init(i as u32));
            upload(random::initial(&param.init, dims.iter().product(), &mut rng), dims, &self.device)
        });
        self.params = initial.collect();
        self.update = ParamUpdate::new(&self.whole.graph);
        self.dropout = stream(self.seed, StreamPurpose::Dropout);
        self.data = stream(self.seed, StreamPurpose::Data);
    }

    /// The graph that runs.
    pub fn graph(&self) -> &Graph {
        &self.whole.graph
    }

    /// Draws the next training batch of this run from `train`.
    pub fn draw(&mut self, train: &[u8]) -> TrainingBatch {
        TrainingBatch::draw(train, self.whole.graph.batch, self.whole.graph.context, &mut self.data)
    }

    /// Makes one training step. `multiplier` is the schedule's for the learning rate. Returns the
    /// loss before the step, which stays on the device until [`Loss::read`].
    ///
    /// # Errors
    /// [`ExecError::Graph`] for a graph that tracing did not make.
    pub fn step(&mut self, batch: &TrainingBatch, multiplier: f64) -> Result<Loss, ExecError> {
        let (loss, grads) = self.loss_and_gradients(batch)?;
        self.update.step(&self.whole.graph, &mut self.params, grads, multiplier, &self.shards.lanes);
        Ok(loss)
    }

    /// Waits until the device has finished its queue.
    ///
    /// # Errors
    /// [`ExecError::Device`] when it failed.
    pub fn sync(&self) -> Result<(), ExecError> {
        self.device.sync().map_err(|error| ExecError::Device(error.to_string()))
    }

    /// Bytes of device memory in use, where the backend counts them.
    pub fn device_bytes(&self) -> Option<u64> {
        self.device.memory_pool_usage().map(|usage| usage.bytes_reserved)
    }

    /// The sum over the shards. Dropout goes on as if the batch were computed as one.
    fn loss_and_gradients(&mut self, batch: &TrainingBatch) -> Result<(Loss, Vec<Option<DeviceValue>>), ExecError> {
        let count = self.shards.count;
        let dropout = Mutex::new(None);
        let sum = summed(&self.shards.lanes, count, &|index| {
            let mut random = self.dropout.clone();
            let partial = self.shard(batch, Shard { index, count }, &mut random)?;
            if let (0, Ok(mut slot)) = (index, dropout.lock()) {
                *slot = Some(random);
            }
            Ok(partial)
        })?;
        if let Ok(Some(random)) = dropout.into_inner() {
            self.dropout = random;
        }
        // The number of shards is a power of two: the mean is exact.
        Ok((Loss(sum.loss.div_scalar(count as f64)), sum.grads))
    }

    /// One shard's loss and its part of the gradients.
    fn shard(&self, batch: &TrainingBatch, shard: Shard, random: &mut ChaCha8Rng) -> Result<Partial, ExecError> {
        let part = self.shards.part.as_ref().unwrap_or(&self.whole);
        let length = batch.inputs.len() / shard.count.max(1);
        let own =
            |bytes: &[u8]| upload_bytes(bytes.chunks(length.max(1)).nth(shard.index).unwrap_or_default(), &self.device);
        let mut pass = Pass::new(self.environment(part), own(&batch.inputs), Some(shard));
        let logits = pass.forward(random)?;
        let (loss, gradient) = cross_entropy(logits, own(&batch.targets), batch.targets.len());
        Ok(Partial { loss, grads: pass.backward(gradient)? })
    }

    fn environment<'a>(&'a self, planned: &'a PlannedGraph) -> Environment<'a> {
        Environment {
            graph: &planned.graph,
            plan: &planned.plan,
            params: &self.params,
            tables: &planned.tables,
            device: &self.device,
        }
    }

    pub(crate) fn try_logits(&mut self, inputs: &[u8]) -> Result<Vec<f32>, ExecError> {
        let inputs = upload_bytes(inputs, &self.device);
        let logits = Pass::new(self.environment(&self.whole), inputs, None).forward(&mut self.dropout.clone())?;
        logits.try_into_vec_as::<f32>().map_err(|error| ExecError::Device(error.to_string()))
    }
}

impl Predictor for Executor {
    fn batch(&self) -> usize {
        self.whole.graph.batch
    }

    fn context(&self) -> usize {
        self.whole.graph.context
    }

    /// Dropout is off. A device that fails gives NaNs, which the evaluator reports as divergence.
    fn logits(&mut self, inputs: &[u8]) -> Vec<f32> {
        self.try_logits(inputs).unwrap_or_else(|error| {
            tracing::error!(%error, "no logits");
            vec![f32::NAN; inputs.len() * VOCAB]
        })
    }
}

/// A step's mean cross-entropy, on the device.
pub struct Loss(Tensor<1>);

impl Loss {
    /// The loss in nats for each byte. Waits for the device.
    ///
    /// # Errors
    /// [`ExecError::Device`] when it failed.
    pub fn read(self) -> Result<f64, ExecError> {
        let value = self.0.try_into_scalar::<f32>().map_err(|error| ExecError::Device(error.to_string()))?;
        Ok(f64::from(value))
    }
}

/// Mean over these rows of `-ln softmax(logits)[target]`, and the part in these rows, of the logits' shape, of the
/// gradient of the mean over all `count` rows of the batch: `(softmax(logits) - one_hot(target)) / count`.
fn cross_entropy(logits: DeviceValue, targets: Tensor<1, Int>, count: usize) -> (Tensor<1>, DeviceValue) {
    let dims = logits.dims();
    let hits = one_hot(targets, VOCAB);
    let p = burn::tensor::activation::softmax(rows(logits), 1);
    // A probability that underflows to 0 would make the reported loss infinite, so the smallest
    // normal number is added. The gradient is not computed from here.
    let chosen = (p.clone() * hits.clone()).sum_dim(1).add_scalar(f32::MIN_POSITIVE);
    let loss = chosen.log().mean().neg();
    (loss, (p - hits).div_scalar(count as f64).reshape(dims))
}

/// The constant tensors that the nodes need. Nodes with equal keys share one table.
fn tables(graph: &Graph, device: &Device) -> Vec<Option<ConstantPair>> {
    let mut made: Vec<(TableKey, ConstantPair)> = Vec::new();
    let mut table = |operation: &dyn Operation, at: Located<'_>| {
        let key = operation.table(at)?;
        if let Some((_, found)) = made.iter().find(|(have, _)| *have == key) {
            return Some(found.clone());
        }
        let new = operation.make_table(key, device)?;
        made.push((key, new.clone()));
        Some(new)
    };
    let nodes = graph.nodes.iter().enumerate();
    nodes.map(|(i, node)| table(node.op.rules(), Located::new(&graph.nodes, i))).collect()
}

/// For tests of operations.
#[cfg(test)]
impl Executor {
    /// Replaces the values of the parameters.
    pub(crate) fn set_params(&mut self, params: Vec<DeviceValue>) {
        self.params = params;
    }

    /// The graph's result in training, and the gradients of `sum(weight * result)` with respect to
    /// the parameters.
    pub(crate) fn gradients_of_sum(&self, tokens: &[u8], weights: &[f32]) -> (DeviceValue, Vec<Option<DeviceValue>>) {
        let mut pass = Pass::new(self.environment(&self.whole), upload_bytes(tokens, &self.device), Some(Shard::WHOLE));
        let result = pass.forward(&mut stream(1, StreamPurpose::Dropout)).unwrap();
        let grads = pass.backward(upload(weights.to_vec(), result.dims(), &self.device)).unwrap();
        assert!(pass.kept.iter().all(Option::is_none), "kept after the backward pass");
        assert!(pass.values.iter().flatten().count() <= 1, "values outlive their last use");
        (result, grads)
    }
}
