//! The values that a script makes besides tensors and only hands on: initial values, an
//! optimizer, a schedule.

use std::fmt;

use starlark::values::none::NoneOr;
use starlark::values::{StarlarkValue, starlark_value};

use super::error::Misuse;
pub(super) use super::handles::SettingValue;
use crate::graph::{AdamW, Init, Schedule};

/// What one of the functions below `Setting` made.
#[derive(Clone, Debug)]
pub(super) enum Setting {
    /// By `normal`, `uniform`, `zeros`, `ones` or `constant`.
    Init(Init),
    /// By `adamw`.
    Optimizer(AdamW),
    /// By `schedule`.
    Schedule(Schedule),
}

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

/// The initial values in an `init=` argument.
pub(super) fn init(what: &str, setting: NoneOr<&SettingValue>) -> Result<Option<Init>, Misuse> {
    match setting.into_option().map(|value| &value.0) {
        None => Ok(None),
        Some(Setting::Init(init)) => Ok(Some(init.clone())),
        Some(_) => Err(Misuse::new(format!(
            "{what}: init must be normal(std), uniform(limit), zeros(), ones() or constant(value)"
        ))),
    }
}
