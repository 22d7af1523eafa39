//! Descriptions, hypotheses and diffs of synthetic records, in the style of agents and of the length that real
//! records have.

use crate::dice::Dice;

const KNOBS: &[&str] = &[
    "lr",
    "min_lr",
    "embed_lr",
    "head_lr",
    "beta1",
    "beta2",
    "eps",
    "weight_decay",
    "warmup",
    "cooldown",
    "width",
    "layers",
    "heads",
    "kv_heads",
    "mlp_ratio",
    "context",
    "batch",
    "accumulation",
    "embed_std",
    "init_scale",
    "rope_base",
    "clip",
    "dropout",
    "softcap",
    "window",
    "momentum",
    "ema_decay",
    "label_smoothing",
    "z_loss",
    "grad_noise",
];

const IDEAS: &[&str] = &[
    "muon for the matrices",
    "an untied head",
    "value embeddings",
    "a learned skip from the embedding",
    "query and key normalisation",
    "squared relu",
    "a gated mlp",
    "a sliding window on even layers",
    "logit softcapping",
    "multi-token prediction",
    "a cosine schedule with restarts",
    "sandwich norm",
    "parallel attention and mlp",
    "grouped query attention",
    "alibi in place of rope",
    "a shared projection",
    "stochastic depth",
    "byte pair merges in the first layer",
    "a convolution before attention",
    "weight averaging over the last tenth",
    "lion in place of adamw",
    "a larger vocabulary of patches",
    "residual scaling by depth",
    "zero initialised outputs",
    "a bottleneck in the head",
    "token shift",
    "differential attention",
    "a memory of past keys",
    "cautious updates",
    "spectral normalisation",
];

const NOUNS: &[&str] = &[
    "loss",
    "gradient",
    "norm",
    "attention",
    "head",
    "embedding",
    "schedule",
    "budget",
    "step",
    "batch",
    "context",
    "layer",
    "width",
    "depth",
    "residual",
    "stream",
    "query",
    "key",
    "value",
    "score",
    "logit",
    "softmax",
    "token",
    "byte",
    "corpus",
    "noise",
    "variance",
    "curvature",
    "momentum",
    "decay",
    "warmup",
    "cooldown",
    "plateau",
    "spike",
    "parent",
    "branch",
    "sibling",
    "baseline",
    "frontier",
    "kernel",
    "launch",
    "memory",
    "cache",
    "bandwidth",
    "precision",
    "rounding",
    "overflow",
    "initialisation",
    "projection",
    "mixture",
    "gate",
    "expert",
    "window",
    "mask",
    "position",
    "rotation",
    "frequency",
    "entropy",
    "likelihood",
    "sample",
    "split",
    "shard",
    "throughput",
    "optimiser",
    "weight",
    "bias",
    "scale",
    "temperature",
    "capacity",
    "rank",
    "subspace",
    "feature",
    "pattern",
    "copy",
    "induction",
    "regulariser",
    "penalty",
    "margin",
    "gap",
    "trend",
    "curve",
    "average",
    "checkpoint",
    "restart",
    "seed",
];

const VERBS: &[&str] = &[
    "limits",
    "dominates",
    "hides",
    "amplifies",
    "damps",
    "follows",
    "precedes",
    "saturates",
    "starves",
    "feeds",
    "shifts",
    "sharpens",
    "flattens",
    "delays",
    "stabilises",
    "destabilises",
    "shortens",
    "stretches",
    "reuses",
    "replaces",
    "duplicates",
    "wastes",
    "recovers",
    "matches",
    "outgrows",
    "undoes",
    "explains",
    "predicts",
    "masks",
    "absorbs",
    "bounds",
    "tracks",
    "trades away",
    "depends on",
    "collapses into",
    "competes with",
    "drifts from",
];

const KINDS: &[&str] = &[
    "small",
    "large",
    "early",
    "late",
    "narrow",
    "wide",
    "shallow",
    "deep",
    "noisy",
    "smooth",
    "sparse",
    "dense",
    "frozen",
    "tied",
    "untied",
    "shared",
    "local",
    "global",
    "final",
    "first",
    "second",
    "cheap",
    "costly",
    "effective",
    "nominal",
    "relative",
    "absolute",
    "initial",
    "residual",
    "causal",
    "learned",
    "fixed",
    "cosine",
    "linear",
    "remaining",
    "typical",
    "rare",
    "common",
    "stable",
    "brittle",
    "unused",
    "free",
    "average",
    "worst",
    "best",
];

const TURNS: &[&str] = &[
    "If so,",
    "In that case",
    "Otherwise",
    "By the same reasoning",
    "On this budget",
    "As the parent showed,",
    "Against expectation",
    "Going by its curve,",
    "For this class of device",
    "At this width",
    "After the warmup",
    "Near the end",
    "Unlike the sibling,",
    "With the same seed",
    "As two earlier runs suggest,",
];

const LINES: &[&str] = &[
    "def mlp(x, name):",
    "    hidden = act(linear(x, name + \".up\", mlp_ratio * width))",
    "    return linear(hidden, name + \".down\", width, init=zeros())",
    "    q = rope(rms_norm(q), base=rope_base)",
    "    mixed = merge_heads(attention(q, k, v))",
    "    table = param(\"embed\", [256, width], init=normal(embed_std))",
    "    x = rms_norm(embedding(table, tokens))",
    "    for i in range(layers):",
    "        x = x + attend(rms_norm(x), \"layer%d.attention\" % i)",
    "        x = x + mlp(rms_norm(x), \"layer%d.mlp\" % i)",
    "    return linear(rms_norm(x), \"head\", 256, init=zeros())",
    "# One step sees batch sequences of context bytes.",
];

const AUTHORS: &[&str] =
    &["claude-sonnet-4", "gpt-5-mini", "qwen3-coder-30b", "built-in", "deepseek-v3.2", "gemini-2.5-pro"];

/// The texts of one record.
pub struct Texts {
    pub description: String,
    pub hypothesis: String,
    pub diff: String,
    pub author: &'static str,
}

/// A value that a knob may have, short as people write it.
fn setting(dice: &mut Dice) -> String {
    match dice.below(3) {
        0 => format!("{:.4}", dice.unit() / 10.0),
        1 => format!("{:.3}", dice.unit()),
        _ => (1usize << dice.below(12)).to_string(),
    }
}

pub fn texts(dice: &mut Dice) -> Texts {
    let (knob, other) = (dice.word(KNOBS), dice.word(KNOBS));
    let (old, new) = (setting(dice), setting(dice));
    let idea = dice.word(IDEAS);
    let description = match dice.below(4) {
        0 => format!("{knob} {old} -> {new}"),
        1 => format!("Try {idea} with {knob} = {new}"),
        2 => format!("{idea}, and {other} back to {old}"),
        _ => format!("Raise {knob} from {old} to {new}, keep {other}"),
    };
    let hypothesis = format!(
        "With {knob} at {old} the {}. {} {idea} lets the {}, worth about {:.4}.",
        clause(dice),
        dice.word(TURNS),
        clause(dice),
        dice.unit() / 50.0
    );
    Texts { description, hypothesis, diff: diff(dice, knob, &old, &new), author: dice.word(AUTHORS) }
}

/// A statement of an agent about cause and effect.
fn clause(dice: &mut Dice) -> String {
    let (kind, noun, verb) = (dice.word(KINDS), dice.word(NOUNS), dice.word(VERBS));
    format!("{kind} {noun} {verb} the {} {} of the {}", dice.word(KINDS), dice.word(NOUNS), dice.word(NOUNS))
}

/// A unified diff of one or two hunks.
fn diff(dice: &mut Dice, knob: &str, old: &str, new: &str) -> String {
    let line = 8 + dice.below(24);
    let mut text = format!(
        "--- parent.star\n+++ train.star\n@@ -{line},3 +{line},3 @@\n {}\n-{knob} = tune(\"{knob}\", {old})\n+{knob} = tune(\"{knob}\", {new})\n {}\n",
        dice.word(LINES),
        dice.word(LINES)
    );
    if dice.chance(0.8) {
        let line = 40 + dice.below(60);
        let (made, from) = (dice.word(NOUNS), dice.word(NOUNS));
        text.push_str(&format!(
            "@@ -{line},2 +{line},4 @@\n {}\n+    {made} = linear({from}, name + \".{made}\", {})\n+    {from} = {from} + {} * {}({made})\n {}\n",
            dice.word(LINES),
            setting(dice),
            setting(dice),
            dice.word(&["gelu", "silu", "tanh", "relu", "square", "rms_norm", "softcap", "sigmoid"]),
            dice.word(LINES)
        ));
    }
    text
}
