//! A task's rules of evaluation.

use serde::{Deserialize, Serialize};
use spore_protocol::Cid;

use super::EvalError;

/// Version of the rules. A change that can change a metric needs a new version.
pub const EVAL_VERSION: u32 = 2;

/// Places at which the future is hidden, in each evaluation. A leak on a share `f` of all places is
/// met with probability `1 - (1 - f)^1024`: 99.4 % for half a percent.
const HIDDEN_PAIRS: u32 = 1024;

/// A task's rules of evaluation. The SHA-256 of [`EvalSpec::to_bytes`] is its `prepare_cid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalSpec {
    // The fields stand in alphabetical order, which makes serde's output canonical JSON.
    /// Number of bytes that are predicted.
    pub eval_bytes: u64,
    /// Number of (window, place) pairs at which the future is hidden, at least 1,024.
    pub hidden_pairs: u32,
    /// Always `val_bpb`.
    pub metric: String,
    /// Percentage of the dataset, at its end, that is held out.
    pub val_percent: u32,
    /// [`EVAL_VERSION`].
    pub version: u32,
}

impl EvalSpec {
    /// The spec for a training budget in seconds, such that evaluating takes a small part of it.
    pub fn for_budget(seconds: u64) -> Self {
        let kib = (seconds * 4 / 5).clamp(16, 256);
        Self {
            eval_bytes: kib << 10,
            hidden_pairs: HIDDEN_PAIRS,
            metric: "val_bpb".to_owned(),
            val_percent: 10,
            version: EVAL_VERSION,
        }
    }

    /// Canonical JSON: keys sorted, no blanks, ASCII.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Five plain fields cannot fail to serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The id of [`Self::to_bytes`].
    pub fn cid(&self) -> Cid {
        Cid::of(&self.to_bytes())
    }

    /// The spec whose [`Self::to_bytes`] these are.
    ///
    /// # Errors
    /// [`EvalError::BadSpec`] for other bytes, another version or values out of range.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EvalError> {
        let bad = |reason: &str| Err(EvalError::BadSpec(reason.to_owned()));
        let spec: Self = serde_json::from_slice(bytes).map_err(|error| EvalError::BadSpec(error.to_string()))?;
        if spec.to_bytes() != bytes {
            return bad("the JSON is not canonical");
        }
        if spec.version != EVAL_VERSION || spec.metric != "val_bpb" {
            return bad("this version of Spore knows only version 2 and val_bpb");
        }
        let sizes = (1..=4 << 20).contains(&spec.eval_bytes) && (HIDDEN_PAIRS..=16 << 10).contains(&spec.hidden_pairs);
        if !sizes || !(1..=50).contains(&spec.val_percent) {
            return bad("a value is out of range");
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_have_one_spelling_and_a_cid() {
        let spec = EvalSpec::for_budget(300);
        let text = r#"{"eval_bytes":245760,"hidden_pairs":1024,"metric":"val_bpb","val_percent":10,"version":2}"#;
        assert_eq!(String::from_utf8(spec.to_bytes()).unwrap(), text);
        assert_eq!(EvalSpec::from_bytes(text.as_bytes()), Ok(spec.clone()));
        assert_eq!(spec.cid(), Cid::of(text.as_bytes()));
        assert_eq!(EvalSpec::for_budget(20).eval_bytes, 16 << 10);
        let changes = [(":", ": "), ("10,", "60,"), ("\"version\":2", "\"version\":1"), ("1024", "1023")];
        for (from, to) in changes {
            let bad = text.replace(from, to);
            assert!(EvalSpec::from_bytes(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
