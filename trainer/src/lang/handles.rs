//! The three types of ours that the interpreter holds: a tensor, a setting, and the session
//! behind them. Only their declarations; what they do is in `tensor`, `setting` and `session`.
#![allow(
    unsafe_code,
    reason = "Starlark's derive of ProvidesStaticType writes `unsafe impl`; these types have no lifetimes, for which it is trivially right"
)]

use std::sync::{Arc, Mutex};

use allocative::Allocative;
use starlark::any::ProvidesStaticType;
use starlark::starlark_simple_value;
use starlark::values::NoSerialize;

use super::ops::Tensor;
use super::session::Declared;
use super::setting::Setting;

/// A tensor on the interpreter's heap.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative)]
pub(in crate::lang) struct TensorValue(#[allocative(skip)] pub(in crate::lang) Tensor);

starlark_simple_value!(TensorValue);

/// A setting on the interpreter's heap.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative)]
pub(in crate::lang) struct SettingValue(#[allocative(skip)] pub(in crate::lang) Setting);

starlark_simple_value!(SettingValue);

/// A shared handle on what the script declares; cheap to clone.
#[derive(Clone, Debug, ProvidesStaticType)]
pub(in crate::lang) struct Session(pub(in crate::lang) Arc<Mutex<Declared>>);
