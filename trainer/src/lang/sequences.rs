//! Functions over plain numbers that replace those of Starlark's standard library, with bounds.

use std::num::NonZeroI32;

use starlark::environment::GlobalsBuilder;
use starlark::starlark_module;
use starlark::values::range::Range;

use super::limits::RANGE_LENGTH;
use crate::ops::Misuse;

#[starlark_module]
pub(super) fn sequences(builder: &mut GlobalsBuilder) {
    /// The standard `range` with a bound, so that `list(range(n))` cannot fill the memory at once.
    fn range(
        #[starlark(require = pos)] first: i32,
        #[starlark(require = pos)] second: Option<i32>,
        #[starlark(require = pos, default = 1)] step: i32,
    ) -> starlark::Result<Range> {
        let (start, stop) = second.map_or((0, first), |stop| (first, stop));
        let Some(step) = NonZeroI32::new(step) else {
            return Err(Misuse::new("range: the step is 0").into());
        };
        let length = (i64::from(stop) - i64::from(start)) / i64::from(step.get());
        if length > RANGE_LENGTH {
            return Err(Misuse::new(format!("range: {length} elements, the limit is {RANGE_LENGTH}")).into());
        }
        Ok(Range::new(start, stop, step))
    }
}
