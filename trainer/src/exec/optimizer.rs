//! Updating parameters: the rules, clipping and the learning-rate schedule.

use std::sync::Mutex;

use burn::optim::{AdamW as BurnAdamW, AdamWConfig, Optimizer as _};
use burn::tensor::Tensor;

use super::lanes::Lanes;
use crate::graph::{AdamW, Decay, Graph, Lion, Muon, Optimizer, Param, Schedule, Sgd};
use crate::ops::tensors::{DeviceValue, matrix};

type Moments = <BurnAdamW as burn::optim::Optimizer>::State<5>;

/// Each parameter's rule and what the rule remembers of it.
pub(super) struct ParamUpdate {
    groups: Vec<Group>,
    params: Vec<UpdatedParam>,
}

/// The parameters with one rule. Their gradients are clipped together.
struct Group {
    rule: Optimizer,
    /// burn's AdamW, with and without weight decay, where that is the rule.
    ///
    /// Its step: `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
    /// `w = w (1 - lr decay) - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)`.
    adamw: Option<[BurnAdamW; 2]>,
}

/// The state of one parameter.
#[derive(Default)]
struct UpdatedParam {
    /// The place of its rule.
    group: usize,
    /// AdamW's means.
    moments: Option<Moments>,
    /// The running mean or sum of gradients of the other rules.
    momentum: Option<DeviceValue>,
}

impl Group {
    fn new(rule: &Optimizer) -> Self {
        let adamw = match rule {
            Optimizer::AdamW(settings) => Some([settings.weight_decay, 0.0].map(|decay| built(settings, decay))),
            _ => None,
        };
        Self { rule: rule.clone(), adamw }
    }
}

impl Group {
    /// One step on one parameter at a learning rate.
    fn step(&self, param: &mut DeviceValue, state: &mut UpdatedParam, spec: &Param, grad: DeviceValue, rate: f64) {
        let old = std::mem::replace(param, Tensor::empty([1; 5], &grad.device()));
        if let Some([decaying, plain]) = &self.adamw {
            let rule = if spec.decay { decaying } else { plain };
            (*param, state.moments) = rule.step(rate, old, grad, state.moments.take());
            return;
        }
        let (by, momentum) = direction(&self.rule, grad, state.momentum.take());
        state.momentum = momentum;
        let decay = if spec.decay { rate * self.rule.weight_decay() } else { 0.0 };
        let kept = if decay > 0.0 { old.mul_scalar(1.0 - decay) } else { old };
        *param = kept - by.mul_scalar(rate);
    }
}

fn built(settings: &AdamW, decay: f64) -> BurnAdamW {
    AdamWConfig::new()
        .with_beta_1(settings.beta1 as f32)
        .with_beta_2(settings.beta2 as f32)
        .with_epsilon(settings.eps as f32)
        .with_weight_decay(decay as f32)
        .build()
}

impl ParamUpdate {
    pub fn new(graph: &Graph) -> Self {
        let (mut groups, mut params): (Vec<Group>, Vec<UpdatedParam>) = (Vec::new(), Vec::new());
        for param in &graph.params {
            let rule = graph.rule_of(param);
            let known = groups.iter().position(|group| group.rule == *rule);
            let group = known.unwrap_or_else(|| {
                groups.push(Group::new(rule));
                groups.len() - 1
            });
            params.push(UpdatedParam { group, ..UpdatedParam::default() });
        }
        Self { groups, params }
    }

    /// One step on every parameter that has a gradient, side by side on `lanes`; `multiplier` is the schedule's.
    pub fn step(
        &mut self,
        graph: &Graph,
        params: &mut [DeviceValue],
        grads: Vec<Option<DeviceValue>>,
        multiplier: f64,
        lanes: &Lanes,
    ) {
        let grads = self.clipped(grads, lanes);
        let groups = &self.groups;
        let slots = params.iter_mut().zip(&mut self.params).zip(&graph.params).zip(grads);
        let jobs: Vec<_> = slots.map(|slot| Mutex::new(Some(slot))).collect();
        lanes.run(jobs.len(), &|index| {
            let Some(job) = jobs.get(index).and_then(|job| job.lock().ok()?.take()) else { return };
            let (((param, state), spec), grad) = job;
            let (Some(grad), Some(group)) = (grad, groups.get(state.group)) else { return };
            group.step(param, state, spec, grad, group.rule.lr() * spec.lr_scale * multiplier);
        });
    }

    /// The gradients, those of each rule clipped together.
    fn clipped(&self, grads: Vec<Option<DeviceValue>>, lanes: &Lanes) -> Vec<Option<DeviceValue>> {
        if let [group] = self.groups.as_slice() {
            return clip(grads, group.rule.clip(), lanes);
        }
        let mut grads = grads;
        for (at, group) in self.groups.iter().enumerate() {
            let of_group = |state: &UpdatedParam| state.group == at;
            let taken = grads.iter_mut().zip(&self.params).map(|(grad, state)| grad.take_if(|_| of_group(state)));
            let clipped = clip(taken.collect(), group.rule.clip(), lanes);
            for (slot, grad) in grads.iter_mut().zip(clipped).filter(|(_, grad)| grad.is_some()) {
                *slot = grad;
            }
        }
        grads
    }
}

/// What a rule other than AdamW subtracts from a parameter at a learning rate of 1, and what it remembers.
fn direction(rule: &Optimizer, grad: DeviceValue, memory: Option<DeviceValue>) -> (DeviceValue, Option<DeviceValue>) {
    /// `decay * memory + grad`, and the step that follows from it.
    fn momentum(grad: DeviceValue, memory: Option<DeviceValue>, decay: f64, nesterov: bool) -> [DeviceValue; 2] {
        let sum = match memory {
            Some(memory) => memory.mul_scalar(decay) + grad.clone(),
            None => grad.clone(),
        };
        let step = if nesterov { sum.clone().mul_scalar(decay) + grad } else { sum.clone() };
        [step, sum]
    }
    match rule {
        // Has its own way, above.
        Optimizer::AdamW(_) => (grad, memory),
        Optimizer::Muon(Muon { momentum: decay, nesterov, iterations, .. }) => {
            let [step, sum] = momentum(grad, memory, *decay, *nesterov);
            (orthogonal(step, *iterations), Some(sum))
        }
        Optimizer::Lion(Lion { lion_beta1, lion_beta2, .. }) => {
            let mean = memory.unwrap_or_else(|| grad.zeros_like());
            let mixed = |beta: f64| mean.clone().mul_scalar(beta) + grad.clone().mul_scalar(1.0 - beta);
            (mixed(*lion_beta1).sign(), Some(mixed(*lion_beta2)))
        }
        Optimizer::Sgd(Sgd { momentum: decay, nesterov, .. }) => {
            if *decay == 0.0 {
                return (grad, None);
            }
            let [step, sum] = momentum(grad, memory, *decay, *nesterov);
            (step, Some(sum))
        }
    }
}

/// The coefficients of the iteration, whose fixed range Jordan chose so that five steps are enough: singular values end
/// between 0.7 and 1.2.
const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// Added to the norm, so that a gradient of zeros stays zeros.
const NORM_EPS: f64 = 1e-7;

/// The nearly orthogonal matrix beside this one, `[inputs, outputs]`, scaled so that a step changes each output alike.
fn orthogonal(x: DeviceValue, iterations: u32) -> DeviceValue {
    let dims = x.dims();
    let [.., inputs, outputs] = dims;
    let x = matrix(x);
    let tall = inputs > outputs;
    let mut x = if tall { x.transpose() } else { x };
    let norm = x.clone().square().sum().sqrt().add_scalar(NORM_EPS).reshape([1, 1]);
    x = x / norm;
    let [a, b, c] = QUINTIC;
    for _ in 0..iterations {
        let gram = x.clone().matmul(x.clone().transpose());
        let mixed = gram.clone().mul_scalar(b) + gram.clone().matmul(gram).mul_scalar(c);
        x = x.clone().mul_scalar(a) + mixed.matmul(x);
    }
    let x = if tall { x.transpose() } else { x };
    let scale = (outputs as f64 / inputs.max(1) as f64).max(1.0).sqrt();
    x.mul_scalar(scale).reshape(dims)
}

/// Scales all gradients so that their common Euclidean norm is at most `limit`; 0 is no limit.
fn clip(grads: Vec<Option<DeviceValue>>, limit: f64, lanes: &Lanes) -> Vec<Option<DeviceValue>> {
    if limit <= 0.0 {
        return grads;
    }
    let squares = on_lanes(lanes, grads.iter().collect(), |grad| {
        grad.as_ref().map(|grad: &DeviceValue| grad.clone().square().sum())
    });
    let Some(total) = squares.into_iter().flatten().reduce(|a, b| a + b) else { return grads };
    // The norm stays on the device: reading it would stall a GPU's queue in each step.
    let scale = total.sqrt().recip().mul_scalar(limit).clamp_max(1.0).reshape([1; 5]);
    on_lanes(lanes, grads, |grad| grad.map(|grad| grad * scale.clone()))
}

/// Each item through `job`, side by side. The results stand in the items' order.
fn on_lanes<A: Send, B: Send>(lanes: &Lanes, items: Vec<A>, job: impl Fn(A) -> Option<B> + Sync) -> Vec<Option<B>> {
    let slots: Vec<_> = items.into_iter().map(|item| Mutex::new((Some(item), None))).collect();
    lanes.run(slots.len(), &|index| {
        let Some(mut slot) = slots.get(index).and_then(|slot| slot.lock().ok()) else { return };
        slot.1 = slot.0.take().and_then(&job);
    });
    slots.into_iter().map(|slot| slot.into_inner().ok().and_then(|(_, result)| result)).collect()
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
    fn muon_makes_steps_of_equal_singular_values() {
        let device = Device::flex();
        // Columns of very different length, neither orthogonal.
        let x = crate::ops::tensors::upload(vec![4.0, 0.1, 0.0, 0.2, 3.0, -0.1], [1, 1, 1, 3, 2], &device);
        for (shape, scale) in [([1, 1, 1, 3, 2], 1.0), ([1, 1, 1, 2, 3], 1.5_f32.sqrt())] {
            let found = matrix(orthogonal(x.clone().reshape(shape), 5));
            let short = if shape[3] > shape[4] { found.clone().transpose() } else { found.clone() };
            let gram: Vec<f32> = short.clone().matmul(short.transpose()).try_into_vec_as::<f32>().unwrap();
            let diagonal = [gram[0], gram[3]].map(|square| square.sqrt() / scale);
            assert!(diagonal.iter().all(|value| (0.6..1.3).contains(value)), "{gram:?}");
            assert!((gram[1] / (scale * scale)).abs() < 0.35, "{gram:?}");
        }
        let zeros = orthogonal(x.zeros_like(), 5);
        assert_eq!(values(&zeros), [0.0; 6]);
    }

    #[test]
    fn lion_and_sgd_follow_their_formulas() {
        let (one, two) = (row(&[2.0, -4.0]), row(&[-3.0, 1.0]));
        let lion = Lion { lr: 1.0, lion_beta1: 0.9, lion_beta2: 0.5, weight_decay: 0.0, clip: 0.0 };
        let lion = Optimizer::Lion(lion);
        let (step, memory) = direction(&lion, one.clone(), None);
        assert_eq!((values(&step), values(memory.as_ref().unwrap())), (vec![1.0, -1.0], vec![1.0, -2.0]));
        // 0.9 * 1 - 0.3 = 0.6, 0.9 * -2 + 0.1 = -1.7.
        let (step, memory) = direction(&lion, two.clone(), memory);
        assert_eq!((values(&step), values(memory.as_ref().unwrap())), (vec![1.0, -1.0], vec![-1.0, -0.5]));
        let sgd = |nesterov| Sgd { lr: 1.0, momentum: 0.5, nesterov, weight_decay: 0.0, clip: 0.0 };
        let (step, memory) = direction(&Optimizer::Sgd(sgd(false)), one, None);
        assert_eq!(values(&step), [2.0, -4.0]);
        let (plain, _) = direction(&Optimizer::Sgd(sgd(false)), two.clone(), memory.clone());
        assert_eq!(values(&plain), [-2.0, -1.0]);
        let (ahead, _) = direction(&Optimizer::Sgd(sgd(true)), two, memory);
        assert_eq!(values(&ahead), [-4.0, 0.5]);
    }

    #[test]
    fn clipping_bounds_the_common_norm_and_leaves_small_gradients_alone() {
        let clipped = clip(vec![Some(row(&[3.0, 0.0])), None, Some(row(&[4.0]))], 1.0, &Lanes::NONE);
        let (a, b) = (values(clipped[0].as_ref().unwrap()), values(clipped[2].as_ref().unwrap()));
        assert!((a[0] - 0.6).abs() < 1e-6 && (b[0] - 0.8).abs() < 1e-6);
        for limit in [0.0, 10.0] {
            let same = clip(vec![Some(row(&[3.0, 4.0]))], limit, &Lanes::NONE);
            assert_eq!(values(same[0].as_ref().unwrap()), [3.0, 4.0]);
        }
        let zero = clip(vec![Some(row(&[0.0]))], 1.0, &Lanes::NONE);
        assert_eq!(values(zero[0].as_ref().unwrap()), [0.0]);
    }

    #[test]
    fn each_rule_clips_its_own_gradients() {
        let rule = |clip| Optimizer::Sgd(Sgd { lr: 1.0, momentum: 0.0, nesterov: false, weight_decay: 0.0, clip });
        let params = [0, 1, 0].map(|group| UpdatedParam { group, ..UpdatedParam::default() });
        let update =
            ParamUpdate { groups: vec![Group::new(&rule(1.0)), Group::new(&rule(0.0))], params: params.into() };
        let clipped = update.clipped(vec![Some(row(&[3.0])), Some(row(&[8.0])), Some(row(&[4.0]))], &Lanes::NONE);
        let found: Vec<f32> = clipped.iter().flat_map(|grad| values(grad.as_ref().unwrap())).collect();
        assert!((found[0] - 0.6).abs() < 1e-6 && found[1] == 8.0 && (found[2] - 0.8).abs() < 1e-6, "{found:?}");
    }
}
