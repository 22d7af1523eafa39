//! The values besides tensors that a script makes and passes on: initial values, an optimizer, a
//! schedule.

use std::fmt;

use starlark::values::{StarlarkValue, starlark_value};

use super::content::Setting;
use super::handles::SettingValue;
use crate::graph::{Init, Optimizer};
use crate::ops::Misuse;

impl fmt::Display for SettingValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Setting::Init(_) => "init",
            Setting::Optimizer(_) => "optimizer",
            Setting::Schedule(_) => "schedule",
        })
    }
}

#[starlark_value(type = "setting")]
impl<'v> StarlarkValue<'v> for SettingValue {}

/// The update rule in an `optimizer=` argument of `function`.
pub(super) fn optimizer_of(function: &str, setting: &SettingValue) -> Result<Optimizer, Misuse> {
    match &setting.0 {
        Setting::Optimizer(rule) => Ok(rule.clone()),
        _ => Err(Misuse::new(format!(
            "{function}: optimizer must be made by adamw(lr, ...), muon(lr, ...), lion(lr, ...) or sgd(lr, ...)"
        ))),
    }
}

/// The initial values in an `init=` argument of `function`.
pub(super) fn init_of(function: &str, setting: &SettingValue) -> Result<Init, Misuse> {
    match &setting.0 {
        Setting::Init(init) => Ok(init.clone()),
        _ => Err(Misuse::new(format!(
            "{function}: init must be normal(std), uniform(limit), zeros(), ones() or constant(value)"
        ))),
    }
}
