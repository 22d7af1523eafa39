//! Updating parameters: AdamW, global-norm clipping and the learning-rate schedule.

use burn::optim::{AdamW as BurnAdamW, AdamWConfig, Optimizer as _};
use burn::tensor::Tensor;

use crate::graph::{AdamW, Decay, Graph, Schedule};
use crate::ops::tensors::DeviceValue;

type Moments = <BurnAdamW as burn::optim::Optimizer>::State<5>;

/// AdamW with the graph's options and one state for each parameter.
///
/// burn's step: `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
/// `w = w (1 - lr decay) - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)`.
pub(super) struct ParamUpdate {
    settings: AdamW,
    decaying: BurnAdamW,
    plain: BurnAdamW,
    moments: Vec<Option<Moments>>,
}

impl ParamUpdate {
    pub fn new(graph: &Graph) -> Self {
        let settings = graph.optimizer.clone();
        let config = |decay: f64| {
            AdamWConfig::new()
                .with_beta_1(settings.beta1 as f32)
                .with_beta_2(settings.beta2 as f32)
                .with_epsilon(settings.eps as f32)
                .with_weight_decay(decay as f32)
                .build()
        };
        let (decaying, plain) = (config(settings.weight_decay), config(0.0));
        Self { settings, decaying, plain, moments: vec![None; graph.params.len()] }
    }

    /// One step on every parameter that has a gradient; `multiplier` is the schedule's.
    pub fn step(
        &mut self,
        graph: &Graph,
        params: &mut [DeviceValue],
        grads: Vec<Option<DeviceValue>>,
        multiplier: f64,
    ) {
        let grads = clip(grads, self.settings.clip);
        let slots = params.iter_mut().zip(&mut self.moments).zip(&graph.params);
        for (((param, moments), spec), grad) in slots.zip(grads) {
            let Some(grad) = grad else { continue };
            let rule = if spec.decay { &self.decaying } else { &self.plain };
            let rate = self.settings.lr * spec.lr_scale * multiplier;
            let old = std::mem::replace(param, Tensor::empty([1; 5], &grad.device()));
            (*param, *moments) = rule.step(rate, old, grad, moments.take());
        }
    }
}

/// Scales all gradients so that their common Euclidean norm is at most `limit`; 0 is no limit.
fn clip(grads: Vec<Option<DeviceValue>>, limit: f64) -> Vec<Option<DeviceValue>> {
    let squares = grads.iter().flatten().map(|grad| grad.clone().square().sum());
    let Some(total) = squares.reduce(|a, b| a + b).filter(|_| limit > 0.0) else {
        return grads;
    };
    // The norm stays on the device: reading it would stall a GPU's queue in each step.
    let scale = total.sqrt().recip().mul_scalar(limit).clamp_max(1.0).reshape([1; 5]);
    grads.into_iter().map(|grad| grad.map(|grad| grad * scale.clone())).collect()
}

/// The multiplier of the learning rate for step `step`, from 0, of `total` steps: rises linearly
/// over the share `warmup` at the beginning, then is 1, and falls to `floor` over the share
/// `cooldown` at the end.
pub(super) fn multiplier(schedule: &Schedule, step: u64, total: u64) -> f64 {
    let (done, total) = ((step + 1) as f64, total.max(1) as f64);
    let (rise, fall) = ((schedule.warmup * total).ceil(), (schedule.cooldown * total).floor());
    if done < rise {
        return done / rise;
    }
    let into = done - (total - fall);
    if into <= 0.0 || fall <= 0.0 {
        return 1.0;
    }
    let u = (into / fall).min(1.0);
    let left = match schedule.shape {
        Decay::Constant => 1.0,
        Decay::Linear => 1.0 - u,
        Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * u).cos()),
    };
    schedule.floor + (1.0 - schedule.floor) * left
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn values(value: &DeviceValue) -> Vec<f32> {
        value.clone().try_into_vec_as::<f32>().unwrap()
    }

    fn row(numbers: &[f32]) -> DeviceValue {
        crate::ops::tensors::upload(numbers.to_vec(), [1, 1, 1, 1, numbers.len()], &Device::flex())
    }

    #[test]
    fn schedule_rises_holds_and_falls() {
        let schedule = Schedule { shape: Decay::Linear, warmup: 0.2, cooldown: 0.5, floor: 0.1 };
        let at = |step| multiplier(&schedule, step, 10);
        assert_eq!((at(0), at(1), at(2), at(4)), (0.5, 1.0, 1.0, 1.0));
        assert!((at(5) - 0.82).abs() < 1e-12 && (at(9) - 0.1).abs() < 1e-12);
        let cosine = Schedule { shape: Decay::Cosine, warmup: 0.0, cooldown: 1.0, floor: 0.0 };
        assert!((multiplier(&cosine, 4, 10) - 0.5).abs() < 1e-12);
        assert!(multiplier(&cosine, 9, 10).abs() < 1e-12);
        let constant = Schedule { shape: Decay::Constant, warmup: 0.0, cooldown: 0.5, floor: 0.0 };
        assert_eq!(multiplier(&constant, 9, 10), 1.0);
        assert_eq!(multiplier(&constant, 0, 1), 1.0);
    }

    #[test]
    fn clipping_bounds_the_common_norm_and_leaves_small_gradients_alone() {
        let clipped = clip(vec![Some(row(&[3.0, 0.0])), None, Some(row(&[4.0]))], 1.0);
        let (a, b) = (values(clipped[0].as_ref().unwrap()), values(clipped[2].as_ref().unwrap()));
        assert!((a[0] - 0.6).abs() < 1e-6 && (b[0] - 0.8).abs() < 1e-6);
        for limit in [0.0, 10.0] {
            let same = clip(vec![Some(row(&[3.0, 4.0]))], limit);
            assert_eq!(values(same[0].as_ref().unwrap()), [3.0, 4.0]);
        }
        let zero = clip(vec![Some(row(&[0.0]))], 1.0);
        assert_eq!(values(zero[0].as_ref().unwrap()), [0.0]);
    }
}
