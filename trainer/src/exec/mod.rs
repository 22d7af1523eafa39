//! Running a graph with burn: forward, gradients, update.
//!
//! The way of a step: [`Executor::step`] uploads a batch, a [`pass`] runs the nodes in order, the
//! cross-entropy's gradient starts the way back, [`optimizer`] changes the parameters. The
//! [`plan`] made beforehand says when each value is dropped.
//!
//! Never here: Starlark, files, clocks. The same graph, seed and batches on the CPU give the same
//! parameters to the bit, whatever the number of threads.

mod backward;
mod forward;
mod optimizer;
mod pass;
mod plan;
mod random;
#[cfg(test)]
mod tests;
pub mod train;

use burn::tensor::{Device, Int, Tensor};
use rand_chacha::ChaCha8Rng;

use crate::data::Batch;
use crate::evaluate::{Predictor, VOCAB};
use crate::graph::{Graph, Op};
use optimizer::ParamUpdate;
pub use optimizer::multiplier;
use pass::{Pass, Setting};
use plan::Plan;
use random::{Purpose, stream};

/// Why a graph cannot run.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExecError {
    /// The graph breaks a rule that tracing guarantees.
    #[error("malformed graph: {0}")]
    Graph(&'static str),
    /// burn could not give a value back.
    #[error("the device failed: {0}")]
    Device(String),
}

/// A graph with its parameters on a device.
pub struct Executor {
    graph: Graph,
    plan: Plan,
    device: Device,
    seed: u64,
    params: Vec<forward::Value>,
    update: ParamUpdate,
    tables: Vec<Option<Table>>,
    dropout: ChaCha8Rng,
    data: ChaCha8Rng,
}

impl Executor {
    /// Parameters at their initial values for `seed`.
    pub fn new(graph: Graph, device: Device, seed: u64) -> Self {
        let mut executor = Self {
            plan: Plan::new(&graph),
            update: ParamUpdate::new(&graph),
            tables: tables(&graph, &device),
            params: Vec::new(),
            dropout: stream(seed, Purpose::Dropout),
            data: stream(seed, Purpose::Data),
            graph,
            device,
            seed,
        };
        executor.reset();
        executor
    }

    /// Back to the state of [`Executor::new`].
    pub fn reset(&mut self) {
        let initial = self.graph.params.iter().enumerate().map(|(i, param)| {
            let dims = forward::padded(&param.shape);
            let mut rng = stream(self.seed, Purpose::Init(i as u32));
            forward::upload(random::initial(&param.init, dims.iter().product(), &mut rng), dims, &self.device)
        });
        self.params = initial.collect();
        self.update = ParamUpdate::new(&self.graph);
        self.dropout = stream(self.seed, Purpose::Dropout);
        self.data = stream(self.seed, Purpose::Data);
    }

    /// The graph that runs.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The next training batch of this run out of `train`.
    pub fn draw(&mut self, train: &[u8]) -> Batch {
        Batch::draw(train, self.graph.batch, self.graph.context, &mut self.data)
    }

    /// One training step with the schedule's multiplier of the learning rate. The loss before the
    /// step stays on the device until [`Loss::read`].
    ///
    /// # Errors
    /// [`ExecError::Graph`] for a graph that tracing did not make.
    pub fn step(&mut self, batch: &Batch, multiplier: f64) -> Result<Loss, ExecError> {
        let (loss, grads) = self.loss_and_gradients(batch)?;
        self.update.step(&self.graph, &mut self.params, grads, multiplier);
        Ok(loss)
    }

    /// Waits until the device has done all that was asked of it.
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

    fn loss_and_gradients(&mut self, batch: &Batch) -> Result<(Loss, Vec<Option<forward::Value>>), ExecError> {
        let inputs = forward::upload_bytes(&batch.inputs, &self.device);
        let targets = forward::upload_bytes(&batch.targets, &self.device);
        let mut pass = Pass::new(self.setting(), inputs, true);
        let mut dropout = self.dropout.clone();
        let logits = pass.forward(&mut dropout)?;
        let (loss, gradient) = cross_entropy(logits, targets);
        let grads = pass.backward(gradient)?;
        self.dropout = dropout;
        Ok((loss, grads))
    }

    fn setting(&self) -> Setting<'_> {
        Setting {
            graph: &self.graph,
            plan: &self.plan,
            params: &self.params,
            tables: &self.tables,
            device: &self.device,
        }
    }

    fn try_logits(&mut self, inputs: &[u8]) -> Result<Vec<f32>, ExecError> {
        let inputs = forward::upload_bytes(inputs, &self.device);
        let logits = Pass::new(self.setting(), inputs, false).forward(&mut self.dropout.clone())?;
        logits.try_into_vec_as::<f32>().map_err(|error| ExecError::Device(error.to_string()))
    }
}

impl Predictor for Executor {
    fn batch(&self) -> usize {
        self.graph.batch
    }

    fn context(&self) -> usize {
        self.graph.context
    }

    /// Dropout is off. A device that fails gives NaNs, which the evaluator calls divergence.
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
    /// Nats for each byte; waits for the device.
    ///
    /// # Errors
    /// [`ExecError::Device`] when it failed.
    pub fn read(self) -> Result<f64, ExecError> {
        let value = self.0.try_into_scalar::<f32>().map_err(|error| ExecError::Device(error.to_string()))?;
        Ok(f64::from(value))
    }
}

/// Mean over all rows of `-ln softmax(logits)[target]`, and its gradient
/// `(softmax(logits) - one_hot(target)) / rows`, of the logits' shape.
fn cross_entropy(logits: forward::Value, targets: Tensor<1, Int>) -> (Loss, forward::Value) {
    let dims = logits.dims();
    let hits = forward::one_hot(targets, VOCAB);
    let [rows, _] = hits.dims();
    let p = burn::tensor::activation::softmax(forward::rows(logits), 1);
    // A probability that underflows to 0 would make the shown loss infinite: the smallest normal
    // number is added. The gradient does not pass here.
    let chosen = (p.clone() * hits.clone()).sum_dim(1).add_scalar(f32::MIN_POSITIVE);
    let loss = chosen.log().mean().neg();
    (Loss(loss), (p - hits).div_scalar(rows as f64).reshape(dims))
}

/// What a table is made from: height, width, bits of the base.
type TableKey = (usize, usize, u64);
type Table = (forward::Value, forward::Value);

/// The constant tables of masks and rotations, shared by nodes that need the same.
fn tables(graph: &Graph, device: &Device) -> Vec<Option<Table>> {
    let mut made: Vec<(TableKey, Table)> = Vec::new();
    let mut table = |key: TableKey, make: &dyn Fn() -> Table| {
        if let Some((_, found)) = made.iter().find(|(have, _)| *have == key) {
            return found.clone();
        }
        made.push((key, make()));
        made.last().map(|(_, table)| table.clone()).unwrap_or_else(make)
    };
    let last_two = |shape: &[usize]| match shape {
        [.., a, b] => (*a, *b),
        _ => (1, 1),
    };
    let of_node = |node: &crate::graph::Node| {
        let (height, width) = last_two(&node.shape);
        match node.op {
            Op::CausalMask(_) => Some(table((height, 0, 0), &|| forward::causal_masks(height, device))),
            Op::Rope { base, .. } => {
                let key = (height, width, base.to_bits());
                Some(table(key, &|| forward::rope_tables(height, width, base, device)))
            }
            _ => None,
        }
    };
    graph.nodes.iter().map(of_node).collect()
}
