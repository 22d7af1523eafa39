//! The language's promises to the authors of scripts, tested through [`trace`].

mod limits;
mod meaning;
mod messages;
mod random;
mod tuning;

use std::collections::BTreeMap;

use super::*;

const BASE: &str = include_str!("../../../scripts/base.star");
const SMALL: &str = include_str!("../../../scripts/small.star");

fn traced(script: &str) -> Traced {
    trace(script, &Limits::default()).unwrap_or_else(|error| panic!("{error}\n{script}"))
}

/// The script with other defaults of its tunables.
fn retune(script: &str, changes: &BTreeMap<String, TuneValue>) -> Result<String, ScriptError> {
    rewrite(script, &traced(script).tunables, changes)
}

fn refusal(script: &str) -> String {
    trace(script, &Limits::default()).unwrap_err().to_string()
}

/// A script whose model runs these statements on `x`, `[2, 4, 6]`, from line 3 on, and returns
/// logits of the right shape whatever they do.
fn around(body: &str) -> String {
    format!(
        "def model(tokens):\n    x = linear(embedding(param('e', [256, 8]), tokens), 'in', 6)\n    {}\n    return linear(x, 'head', 256)\n\
         train(model=model, batch=2, context=4, optimizer=adamw(0.001))\n",
        body.replace('\n', "\n    ")
    )
}

fn complaint(body: &str) -> String {
    refusal(&around(body))
}
