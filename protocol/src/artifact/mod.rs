//! Artifact types: what kind of script the experiments of a task change and run.
//!
//! A manifest names the type in its signed text field `artifact_type`. Each type that this version
//! knows has a module with its [`ScriptFormat`]. A new type is one more module and one more variant.
//!
//! Never here: running a script. The trainer decides what it can run.

pub mod python;
pub mod starlark;

use std::fmt;

use crate::Goal;

/// The artifact type of a task.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ArtifactType {
    /// A train script in Starlark, which this project's trainer runs.
    Starlark,
    /// A Python script, which the reference runs.
    Python,
    /// A type that this version does not know, by its signed name. `From` never returns the name of
    /// another variant here.
    Other(String),
}

/// What a program has to know to handle the scripts of one artifact type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScriptFormat {
    /// The type's name in manifests, command lines and the HTTP API.
    pub name: &'static str,
    /// File name of a script, as the headers of unified diffs show it.
    pub file_name: &'static str,
    /// Largest script in bytes. Larger ones are neither run nor mirrored.
    pub max_bytes: usize,
    /// What a node's own evaluator measures after a run. None for a type that this node cannot run.
    pub evaluated: Option<EvaluatedMetric>,
}

/// A metric that a node's own evaluator measures, and its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluatedMetric {
    pub metric: &'static str,
    pub goal: Goal,
}

impl ArtifactType {
    /// The types that have a format.
    pub const KNOWN: [Self; 2] = [Self::Starlark, Self::Python];

    /// Largest script of any known type, in bytes: the limit for a service that fetches a script
    /// before it knows the task.
    pub const MAX_SCRIPT_BYTES: usize = larger(self::starlark::FORMAT.max_bytes, self::python::FORMAT.max_bytes);

    /// How scripts of this type are handled; none for a type that this version does not know.
    pub const fn format(&self) -> Option<&'static ScriptFormat> {
        match self {
            Self::Starlark => Some(&self::starlark::FORMAT),
            Self::Python => Some(&self::python::FORMAT),
            Self::Other(_) => None,
        }
    }

    /// The text that manifests sign.
    pub fn name(&self) -> &str {
        match self {
            Self::Starlark => self::starlark::FORMAT.name,
            Self::Python => self::python::FORMAT.name,
            Self::Other(name) => name,
        }
    }

    /// Whether a node's own evaluator measures this metric for scripts of this type.
    pub fn measures(&self, metric: &str) -> bool {
        let evaluated = self.format().and_then(|format| format.evaluated);
        evaluated.is_some_and(|evaluated| evaluated.metric == metric)
    }
}

impl From<&str> for ArtifactType {
    fn from(name: &str) -> Self {
        Self::KNOWN.into_iter().find(|known| known.name() == name).unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}

impl From<String> for ArtifactType {
    fn from(name: String) -> Self {
        name.as_str().into()
    }
}

impl fmt::Display for ArtifactType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad`, so that a precision such as `{:.40}` shortens untrusted text.
        f.pad(self.name())
    }
}

const fn larger(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_known_types_round_trip() {
        for known in ArtifactType::KNOWN {
            assert_eq!(ArtifactType::from(known.name()), known);
            assert_eq!(known.format().map(|format| format.name), Some(known.name()));
        }
    }

    #[test]
    fn unknown_type_keeps_its_text() {
        for name in ["", "Starlark_train_script", "a later type"] {
            let unknown = ArtifactType::from(name);
            assert_eq!((unknown.name(), unknown.format()), (name, None));
            assert!(!unknown.measures("val_bpb"));
        }
    }

    #[test]
    fn no_known_script_is_larger_than_the_shared_limit() {
        for known in ArtifactType::KNOWN {
            assert!(known.format().is_some_and(|format| format.max_bytes <= ArtifactType::MAX_SCRIPT_BYTES));
        }
    }
}
