//! The update rules of parameters, as data: what a script may choose, with its numbers. `exec` runs them.

use serde::Serialize;

/// How a parameter is updated.
///
/// The serialised form is part of every graph's identity: each rule's fields have names by which it is told from the
/// others.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Optimizer {
    /// The rule of parameters that name no other.
    AdamW(AdamW),
    /// For matrices.
    Muon(Muon),
    /// The sign of a running mean.
    Lion(Lion),
    /// The gradient itself.
    Sgd(Sgd),
}

/// AdamW (Loshchilov & Hutter 2019) with decoupled weight decay and gradient clipping.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdamW {
    /// The peak learning rate, above 0.
    pub lr: f64,
    /// Decay of the mean of gradients at each step, 0.0..1.0.
    pub beta1: f64,
    /// Decay of the mean of squared gradients at each step, 0.0..1.0.
    pub beta2: f64,
    /// Added to the root of the mean square, above 0.
    pub eps: f64,
    /// Share of a decaying parameter that a step at learning rate 1 takes away, at least 0.
    pub weight_decay: f64,
    /// Largest norm of all gradients together; 0 is no limit.
    pub clip: f64,
}

/// Muon (Jordan et al. 2024): the momentum of a matrix, made nearly orthogonal by Newton and Schulz's iteration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Muon {
    /// The peak learning rate, above 0.
    pub lr: f64,
    /// Decay of the sum of gradients at each step, 0.0..1.0.
    pub momentum: f64,
    /// Whether the present gradient counts once more (Nesterov's momentum).
    pub nesterov: bool,
    /// Steps of the iteration, 1 to 10.
    pub iterations: u32,
    /// As in [`AdamW::weight_decay`].
    pub weight_decay: f64,
    /// As in [`AdamW::clip`].
    pub clip: f64,
}

/// Lion (Chen et al. 2023).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lion {
    /// The peak learning rate, above 0.
    pub lr: f64,
    /// Weight of the running mean in the update, 0.0..1.0.
    pub lion_beta1: f64,
    /// Decay of the running mean at each step, 0.0..1.0.
    pub lion_beta2: f64,
    /// As in [`AdamW::weight_decay`].
    pub weight_decay: f64,
    /// As in [`AdamW::clip`].
    pub clip: f64,
}

/// Stochastic gradient descent with momentum.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sgd {
    /// The peak learning rate, above 0.
    pub lr: f64,
    /// Decay of the sum of gradients at each step, 0.0..1.0; 0 is none.
    pub momentum: f64,
    /// Whether the present gradient counts once more (Nesterov's momentum).
    pub nesterov: bool,
    /// As in [`AdamW::weight_decay`].
    pub weight_decay: f64,
    /// As in [`AdamW::clip`].
    pub clip: f64,
}

impl Optimizer {
    /// The name of the function that makes the rule in a script.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AdamW(_) => "adamw",
            Self::Muon(_) => "muon",
            Self::Lion(_) => "lion",
            Self::Sgd(_) => "sgd",
        }
    }

    /// The peak learning rate.
    pub fn lr(&self) -> f64 {
        match self {
            Self::AdamW(rule) => rule.lr,
            Self::Muon(rule) => rule.lr,
            Self::Lion(rule) => rule.lr,
            Self::Sgd(rule) => rule.lr,
        }
    }

    /// Largest norm of all gradients that the rule takes; 0 is no limit.
    pub fn clip(&self) -> f64 {
        match self {
            Self::AdamW(rule) => rule.clip,
            Self::Muon(rule) => rule.clip,
            Self::Lion(rule) => rule.clip,
            Self::Sgd(rule) => rule.clip,
        }
    }

    /// Share of a decaying parameter that a step at learning rate 1 takes away.
    pub fn weight_decay(&self) -> f64 {
        match self {
            Self::AdamW(rule) => rule.weight_decay,
            Self::Muon(rule) => rule.weight_decay,
            Self::Lion(rule) => rule.weight_decay,
            Self::Sgd(rule) => rule.weight_decay,
        }
    }

    /// Whether the rule updates parameters of this shape.
    pub(crate) fn takes(&self, shape: &[usize]) -> bool {
        !matches!(self, Self::Muon(_)) || shape.len() == 2
    }

    /// Floating-point operations of one update of a parameter, estimated.
    pub(crate) fn flops(&self, shape: &[usize]) -> u64 {
        let count = shape.iter().fold(1_u64, |product, extent| product.saturating_mul(*extent as u64));
        let for_each: u64 = match self {
            // Two moments, their correction, decay and the update.
            Self::AdamW(_) => 12,
            Self::Muon(_) => 10,
            Self::Lion(_) => 8,
            Self::Sgd(_) => 6,
        };
        let products = match (self, shape) {
            // Of m x n with m <= n: `X X^T` and `B X` of m * m * n each, and `A A` of m^3.
            (Self::Muon(rule), [a, b]) => {
                let (short, long) = (*a.min(b) as u64, *a.max(b) as u64);
                let square = short.saturating_mul(short);
                let once =
                    square.saturating_mul(long).saturating_mul(4).saturating_add(square.saturating_mul(short) * 2);
                once.saturating_mul(u64::from(rule.iterations))
            }
            _ => 0,
        };
        count.saturating_mul(for_each).saturating_add(products)
    }
}
