//! Our types that the interpreter holds: a tensor, a function, a setting, and the session behind
//! them. This file has only the declarations. The behaviour is in `tensor`, `library`, `setting`
//! and `session`.
#![allow(
    unsafe_code,
    reason = "Starlark's derive of ProvidesStaticType writes `unsafe impl`; these types have no lifetimes, for which it is trivially right"
)]

use std::sync::{Arc, Mutex};

use allocative::Allocative;
use starlark::any::ProvidesStaticType;
use starlark::starlark_simple_value;
use starlark::values::NoSerialize;

use super::content::{Declared, Registered, Setting};
use crate::ops::Symbol;

/// A tensor on the interpreter's heap, and the session in which its operators add values.
#[derive(Clone, Debug, ProvidesStaticType, NoSerialize, Allocative)]
pub(in crate::lang) struct TensorValue {
    #[allocative(skip)]
    pub(in crate::lang) symbol: Symbol,
    #[allocative(skip)]
    pub(in crate::lang) session: TraceSession,
}

starlark_simple_value!(TensorValue);

/// A function of the language on the interpreter's heap, or a method with its tensor.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative)]
pub(in crate::lang) struct FunctionValue {
    #[allocative(skip)]
    pub(in crate::lang) registered: &'static Registered,
    #[allocative(skip)]
    pub(in crate::lang) receiver: Option<Symbol>,
}

starlark_simple_value!(FunctionValue);

/// A setting on the interpreter's heap.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative)]
pub(in crate::lang) struct SettingValue(#[allocative(skip)] pub(in crate::lang) Setting);

starlark_simple_value!(SettingValue);

/// Handle to the script's declarations. Cheap to clone.
#[derive(Clone, Debug, ProvidesStaticType)]
pub(in crate::lang) struct TraceSession(pub(in crate::lang) Arc<Mutex<Declared>>);
