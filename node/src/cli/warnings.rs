//! The lines of `spore status` about what is wrong with the node or its machine.

use std::io::{self, Write};

use spore_api::dto;

use super::text;

/// Writes a line for each warning. Nothing where there is none.
///
/// # Errors
/// When the output cannot be written.
pub fn write(out: &mut dyn Write, status: &dto::NodeStatus) -> io::Result<()> {
    for warning in &status.warnings {
        writeln!(out, "Warning       {}", text::line(warning))?;
    }
    Ok(())
}
