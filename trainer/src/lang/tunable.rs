//! Tunables: the numbers and choices that a script declares as changeable, and changing them in
//! its text.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::error::ScriptError;

/// A value declared with `tune(...)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tunable {
    /// Unique within the script.
    pub name: String,
    /// The default in the script's text.
    pub value: TuneValue,
    /// Which values are allowed.
    pub kind: TuneKind,
    /// Line of the `tune()` call, from 1.
    pub line: u32,
    /// Bytes of the script that hold the default.
    pub span: Range<usize>,
}

/// The values that a tunable may have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TuneKind {
    /// One of these, in the script's order.
    Choice(Vec<TuneValue>),
    /// A number in `min..=max`.
    Range {
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
        /// Whether steps should be ratios instead of differences; then `min > 0`.
        log: bool,
        /// Whether only whole numbers are allowed.
        integer: bool,
    },
}

/// A value of a tunable.
///
/// Tagged in JSON, because the interpreter turns on serde_json's `arbitrary_precision`, with which
/// an untagged enum cannot read numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TuneValue {
    /// `True` or `False`.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// A finite number.
    Float(f64),
    /// A text, one of the choices.
    Text(String),
}

impl TuneValue {
    /// The value as a number, if it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            TuneValue::Integer(value) => Some(*value as f64),
            TuneValue::Float(value) => Some(*value),
            TuneValue::Flag(_) | TuneValue::Text(_) => None,
        }
    }
}

/// As a Starlark literal.
impl fmt::Display for TuneValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TuneValue::Flag(true) => f.write_str("True"),
            TuneValue::Flag(false) => f.write_str("False"),
            TuneValue::Integer(value) => write!(f, "{value}"),
            TuneValue::Float(value) => write!(f, "{value:?}"),
            TuneValue::Text(value) => write!(f, "\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")),
        }
    }
}

impl TuneKind {
    /// The value in the kind's own type if it is allowed, else a sentence that says which values are.
    pub fn accept(&self, value: &TuneValue) -> Result<TuneValue, String> {
        match self {
            TuneKind::Choice(choices) => {
                let same = |choice: &&TuneValue| {
                    *choice == value || (choice.number().is_some() && choice.number() == value.number())
                };
                choices.iter().find(same).cloned().ok_or_else(|| {
                    let shown: Vec<String> = choices.iter().map(TuneValue::to_string).collect();
                    format!("{value} is not one of the choices {}", shown.join(", "))
                })
            }
            TuneKind::Range { min, max, integer, .. } => {
                let Some(number) = value.number() else {
                    return Err(format!("{value} is not a number; choose one in {min}..{max}"));
                };
                if !(*min..=*max).contains(&number) {
                    return Err(format!("{value} is outside {min}..{max}"));
                }
                if !integer {
                    return Ok(TuneValue::Float(number));
                }
                if number.fract() != 0.0 {
                    return Err(format!("{value} is not a whole number"));
                }
                Ok(TuneValue::Integer(number as i64))
            }
        }
    }
}

/// Replaces the defaults of tunables in a script's text. `tunables` are those of the script, as
/// tracing gave them.
///
/// All other bytes stay, so the unified diff has one line for each change, if each tunable stands
/// on a line of its own. A default that already has the new value keeps its spelling. The new text
/// is not traced: a width that no longer divides by the heads, for example, shows only then.
///
/// # Errors
/// [`ScriptError::NoSuchTunable`] and [`ScriptError::BadValue`].
pub fn rewrite(
    script: &str,
    tunables: &[Tunable],
    changes: &BTreeMap<String, TuneValue>,
) -> Result<String, ScriptError> {
    let mut edits = Vec::with_capacity(changes.len());
    for (name, value) in changes {
        let tunable = tunables.iter().find(|tunable| tunable.name == *name).ok_or_else(|| no_such(name, tunables))?;
        let value =
            tunable.kind.accept(value).map_err(|message| ScriptError::BadValue { name: name.clone(), message })?;
        if value != tunable.value {
            edits.push((tunable.span.clone(), value.to_string()));
        }
    }
    // From the back, so that the spans of earlier edits stay valid.
    edits.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut text = script.to_owned();
    for (span, literal) in edits {
        if text.get(span.clone()).is_none() {
            return Err(ScriptError::Whole("the tunables belong to another script".to_owned()));
        }
        text.replace_range(span, &literal);
    }
    Ok(text)
}

/// The error for a name that is not among a script's tunables.
fn no_such(name: &str, tunables: &[Tunable]) -> ScriptError {
    let declared: Vec<&str> = tunables.iter().map(|tunable| tunable.name.as_str()).collect();
    ScriptError::NoSuchTunable {
        name: name.to_owned(),
        declared: if declared.is_empty() { "none".to_owned() } else { declared.join(", ") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: f64, max: f64, integer: bool) -> TuneKind {
        TuneKind::Range { min, max, log: false, integer }
    }

    #[test]
    fn ranges_accept_numbers_inside_and_keep_their_type() {
        assert_eq!(range(0.0, 1.0, false).accept(&TuneValue::Integer(1)), Ok(TuneValue::Float(1.0)));
        assert_eq!(range(0.0, 9.0, true).accept(&TuneValue::Float(3.0)), Ok(TuneValue::Integer(3)));
        assert_eq!(range(0.0, 9.0, true).accept(&TuneValue::Float(3.5)), Err("3.5 is not a whole number".to_owned()));
        assert_eq!(range(0.0, 1.0, false).accept(&TuneValue::Float(1.5)), Err("1.5 is outside 0..1".to_owned()));
        assert!(range(0.0, 1.0, false).accept(&TuneValue::Float(f64::NAN)).is_err());
        assert!(range(0.0, 1.0, false).accept(&TuneValue::Flag(true)).is_err());
    }

    #[test]
    fn choices_compare_numbers_by_value() {
        let kind = TuneKind::Choice(vec![TuneValue::Integer(64), TuneValue::Integer(96)]);
        assert_eq!(kind.accept(&TuneValue::Float(96.0)), Ok(TuneValue::Integer(96)));
        assert_eq!(kind.accept(&TuneValue::Integer(65)), Err("65 is not one of the choices 64, 96".to_owned()));
    }

    #[test]
    fn values_print_as_literals() {
        let shown: Vec<String> = [
            TuneValue::Flag(true),
            TuneValue::Integer(-3),
            TuneValue::Float(1.0),
            TuneValue::Float(1e-7),
            TuneValue::Text("a\"\\".to_owned()),
        ]
        .iter()
        .map(TuneValue::to_string)
        .collect();
        assert_eq!(shown, ["True", "-3", "1.0", "1e-7", "\"a\\\"\\\\\""]);
    }
}
