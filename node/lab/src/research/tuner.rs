//! The built-in proposer: changes one to three of the values that a script declares as tunable, guided by earlier
//! results of the class.
//!
//! The guide follows the tree-structured Parzen estimator (Bergstra et al. 2011): the better quarter of the earlier
//! results and the rest each give a density over every tunable. Of many random changes, the tuner takes the one that
//! moves furthest towards the first density and away from the second. The values of earlier experiments are read out
//! of the text of their scripts, without running them: a script that differs from the parent only in tunable values
//! shows these values in place.
//!
//! Pure: takes texts, numbers and a seed, returns a script.

use std::collections::{BTreeMap, HashSet};

use rand::{Rng, RngExt as _};
use spore_base::{
    random::{seeded, unit},
    script_text::normal,
};
use spore_protocol::{Cid, Goal};
use spore_trainer::lang::{Tunable, TuneKind, TuneValue, rewrite};

use super::Proposal;

/// The name of this proposer in records.
pub const AGENT: &str = "spore-tuner/1";

/// Share of results that count as good.
const GOOD_SHARE: f64 = 0.25;
/// Fewest results that give a guide.
const MIN_TRIALS: usize = 4;
/// Random changes that the guide chooses from.
const DRAWS: usize = 48;
/// Share of proposals that ignore the guide, so that every part of the space stays reachable.
const UNGUIDED: f64 = 0.2;
/// Width of the Parzen kernel, on the scale where a tunable's range is 0..1.
const BANDWIDTH: f64 = 0.12;
/// Step sizes on the same scale.
const STEPS: [f64; 3] = [0.05, 0.15, 0.35];
/// Significant digits of a proposed number. More digits would only look precise.
const DIGITS: i32 = 2;

type TunedValues = BTreeMap<String, TuneValue>;

/// Values that were tried, with the result.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    pub settings: TunedValues,
    /// None when the experiment crashed.
    pub metric: Option<f64>,
}

/// The values of the tunables in `other`. None when `other` differs from `script`, which is in the normal
/// form, in anything but these and the ends of its lines.
pub fn settings_of(script: &str, tunables: &[Tunable], other: &str) -> Option<TunedValues> {
    let mut ordered: Vec<_> = tunables.iter().collect();
    ordered.sort_by_key(|t| t.span.start);
    let mut settings = TunedValues::new();
    let other = normal(other).text;
    let (mut at, mut rest) = (0, other.as_ref());
    for (i, tunable) in ordered.iter().enumerate() {
        rest = rest.strip_prefix(script.get(at..tunable.span.start)?)?;
        at = tunable.span.end;
        let next = ordered.get(i + 1).map_or(script.len(), |next| next.span.start);
        let between = script.get(at..next)?;
        let end = if i + 1 == ordered.len() { rest.len().checked_sub(between.len())? } else { rest.find(between)? };
        let value = literal(rest.get(..end)?)?;
        settings.insert(tunable.name.clone(), tunable.kind.accept(&value).ok()?);
        rest = rest.get(end..)?;
    }
    (rest == script.get(at..)?).then_some(settings)
}

/// A change of `script` that has not been tried. None when the script has no tunables, or when no new change was
/// found.
pub fn propose(
    script: &str,
    tunables: &[Tunable],
    trials: &[Trial],
    tried: &HashSet<Cid>,
    goal: Goal,
    seed: u64,
) -> Option<Proposal> {
    let mut rng = seeded(seed);
    let guide = if unit(&mut rng) < UNGUIDED { None } else { Guide::learn(trials, goal) };
    let mut best: Option<(f64, TunedValues, String)> = None;
    for _ in 0..DRAWS {
        let changes = draw(tunables, guide.as_ref(), &mut rng);
        let Ok(text) = rewrite(script, tunables, &changes) else { continue };
        if text == script || tried.contains(&Cid::of(text.as_bytes())) {
            continue;
        }
        let score = guide.as_ref().map_or(0.0, |guide| guide.score(tunables, &changes));
        if best.as_ref().is_none_or(|(most, ..)| score > *most) {
            best = Some((score, changes, text));
        }
    }
    let (_, changes, text) = best?;
    let hypothesis = match &guide {
        Some(guide) => format!(
            "Of {} earlier results with this model, the better quarter lies nearer to the new values.",
            guide.good.len() + guide.rest.len()
        ),
        None => "A step from the parent's values, to see how the metric answers.".to_owned(),
    };
    Some(Proposal {
        script: text,
        description: describe(tunables, &changes),
        hypothesis,
        agent_model: AGENT.to_owned(),
    })
}

fn describe(tunables: &[Tunable], changes: &TunedValues) -> String {
    let changed =
        tunables.iter().filter_map(|t| changes.get(&t.name).map(|new| format!("{} {} -> {new}", t.name, t.value)));
    changed.collect::<Vec<_>>().join(", ")
}

/// One to three tunables set to other values.
fn draw(tunables: &[Tunable], guide: Option<&Guide>, rng: &mut impl Rng) -> TunedValues {
    let wanted = match unit(rng) {
        share if share < 0.6 => 1,
        share if share < 0.9 => 2,
        _ => 3,
    };
    let mut changes = TunedValues::new();
    // More draws than changes: a draw may hit the same tunable twice, or its present value.
    for _ in 0..4 * wanted {
        if changes.len() == wanted {
            break;
        }
        let Some(tunable) = tunables.get(below(tunables.len(), rng)) else { break };
        let from = guide.and_then(|guide| guide.example(&tunable.name, rng)).unwrap_or(&tunable.value);
        let value = vary(tunable, from, rng);
        if value != tunable.value && tunable.kind.accept(&value).is_ok() {
            changes.insert(tunable.name.clone(), value);
        }
    }
    changes
}

/// Another value near `from`.
fn vary(tunable: &Tunable, from: &TuneValue, rng: &mut impl Rng) -> TuneValue {
    match &tunable.kind {
        TuneKind::Choice(choices) => choices.get(below(choices.len(), rng)).unwrap_or(&tunable.value).clone(),
        TuneKind::Range { min, max, integer, .. } => {
            let at = position(&tunable.kind, from).unwrap_or(0.5);
            let step = STEPS.get(below(STEPS.len(), rng)).copied().unwrap_or_default();
            // The sum of three uniforms is near enough to a normal distribution.
            let bell = (0..3).map(|_| unit(rng) - 0.5).sum::<f64>() * 2.0;
            let value = place(&tunable.kind, (at + bell * step).clamp(0.0, 1.0));
            if *integer {
                TuneValue::Integer(value.round().clamp(min.ceil(), max.floor()) as i64)
            } else {
                TuneValue::Float(round(value).clamp(*min, *max))
            }
        }
    }
}

/// Where a value lies in its range, 0..1; for choices, its index.
fn position(kind: &TuneKind, value: &TuneValue) -> Option<f64> {
    match kind {
        TuneKind::Choice(choices) => choices.iter().position(|choice| choice == value).map(|i| i as f64),
        TuneKind::Range { min, max, log, .. } => {
            let x = value.number()?;
            let (x, min, max) = if *log { (x.ln(), min.ln(), max.ln()) } else { (x, *min, *max) };
            let share = (x - min) / (max - min);
            share.is_finite().then_some(share.clamp(0.0, 1.0))
        }
    }
}

/// The number at a place 0..1 of a range.
fn place(kind: &TuneKind, share: f64) -> f64 {
    match kind {
        TuneKind::Range { min, max, log: true, .. } => (min.ln() + share * (max.ln() - min.ln())).exp(),
        TuneKind::Range { min, max, .. } => min + share * (max - min),
        TuneKind::Choice(_) => 0.0,
    }
}

/// To [`DIGITS`] significant digits.
fn round(value: f64) -> f64 {
    let text = format!("{value:.*e}", usize::try_from(DIGITS - 1).unwrap_or_default());
    text.parse().unwrap_or(value)
}

/// A number in 0..n; 0 when `n` is 0.
fn below(n: usize, rng: &mut impl Rng) -> usize {
    if n == 0 { 0 } else { rng.random_range(0..n) }
}

/// Earlier results, split into good ones and the rest.
struct Guide<'a> {
    good: Vec<&'a TunedValues>,
    rest: Vec<&'a TunedValues>,
}

impl<'a> Guide<'a> {
    fn learn(trials: &'a [Trial], goal: Goal) -> Option<Self> {
        let mut measured: Vec<_> = trials.iter().filter_map(|t| t.metric.map(|metric| (metric, &t.settings))).collect();
        if measured.len() < MIN_TRIALS {
            return None;
        }
        measured.sort_by(|a, b| goal.order(a.0, b.0));
        let good = ((measured.len() as f64 * GOOD_SHARE).ceil() as usize).max(1);
        let crashed = trials.iter().filter(|t| t.metric.is_none()).map(|t| &t.settings);
        let mut ordered = measured.into_iter().map(|(_, settings)| settings);
        let good: Vec<_> = ordered.by_ref().take(good).collect();
        Some(Self { good, rest: ordered.chain(crashed).collect() })
    }

    /// Half of the time, a good result's value to start from.
    fn example(&self, name: &str, rng: &mut impl Rng) -> Option<&TuneValue> {
        let example = self.good.get(below(self.good.len(), rng))?;
        if unit(rng) < 0.5 { example.get(name) } else { None }
    }

    /// How far the changes move towards the good results: the sum of log density ratios.
    fn score(&self, tunables: &[Tunable], changes: &TunedValues) -> f64 {
        let changed = tunables.iter().filter_map(|t| changes.get(&t.name).map(|new| (t, new)));
        changed.map(|(t, new)| self.ratio(t, new) - self.ratio(t, &t.value)).sum()
    }

    fn ratio(&self, tunable: &Tunable, value: &TuneValue) -> f64 {
        let Some(at) = position(&tunable.kind, value) else { return 0.0 };
        (density(tunable, at, &self.good) / density(tunable, at, &self.rest)).ln()
    }
}

/// A Parzen estimate with a flat prior that counts as one result.
fn density(tunable: &Tunable, at: f64, results: &[&TunedValues]) -> f64 {
    let seen: Vec<f64> =
        results.iter().filter_map(|s| s.get(&tunable.name).and_then(|v| position(&tunable.kind, v))).collect();
    let (prior, mass): (f64, f64) = match &tunable.kind {
        TuneKind::Choice(choices) => {
            let same = seen.iter().filter(|x| (**x - at).abs() < 0.5).count();
            (1.0 / choices.len().max(1) as f64, same as f64)
        }
        TuneKind::Range { .. } => {
            let norm = BANDWIDTH * (2.0 * std::f64::consts::PI).sqrt();
            (1.0, seen.iter().map(|x| (-((x - at) / BANDWIDTH).powi(2) / 2.0).exp() / norm).sum())
        }
    };
    (prior + mass) / (1 + seen.len()) as f64
}

/// A literal as scripts write them: a number, a plain string, True or False.
fn literal(text: &str) -> Option<TuneValue> {
    let text = text.trim();
    let quoted = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    match text {
        "True" => Some(TuneValue::Flag(true)),
        "False" => Some(TuneValue::Flag(false)),
        _ => quoted('"')
            .or_else(|| quoted('\''))
            .map(|inner| TuneValue::Text(inner.replace("\\\"", "\"").replace("\\\\", "\\")))
            .or_else(|| text.parse().ok().map(TuneValue::Integer))
            .or_else(|| text.parse().ok().filter(|x: &f64| x.is_finite()).map(TuneValue::Float)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "lr = tune(\"lr\", 3e-3, min=1e-4, max=1e-1, log=True)\nact = tune('act', 'relu', choices=['relu', 'gelu'])\nwidth = tune(\"width\", 64, min=16, max=256)\nrun(lr, act, width)\n";

    fn tunables() -> Vec<Tunable> {
        let at = |text: &str| {
            let start = SCRIPT.find(text).unwrap();
            start..start + text.len()
        };
        let text = |t: &str| TuneValue::Text(t.into());
        vec![
            Tunable {
                name: "lr".into(),
                value: TuneValue::Float(3e-3),
                kind: TuneKind::Range { min: 1e-4, max: 1e-1, log: true, integer: false },
                line: 1,
                span: at("3e-3"),
            },
            Tunable {
                name: "act".into(),
                value: text("relu"),
                kind: TuneKind::Choice(vec![text("relu"), text("gelu")]),
                line: 2,
                span: at("'relu'"),
            },
            Tunable {
                name: "width".into(),
                value: TuneValue::Integer(64),
                kind: TuneKind::Range { min: 16.0, max: 256.0, log: false, integer: true },
                line: 3,
                span: at("64"),
            },
        ]
    }

    #[test]
    fn settings_are_read_out_of_a_script_that_differs_in_values_only() {
        let other = SCRIPT.replace("3e-3", "0.02").replace("'act', 'relu'", "'act', \"gelu\"").replace("64", "128");
        let settings = settings_of(SCRIPT, &tunables(), &other).unwrap();
        assert_eq!(settings["lr"], TuneValue::Float(0.02));
        assert_eq!(settings["act"], TuneValue::Text("gelu".into()));
        assert_eq!(settings["width"], TuneValue::Integer(128));
        assert_eq!(settings_of(SCRIPT, &tunables(), SCRIPT).unwrap()["width"], TuneValue::Integer(64));
        assert_eq!(settings_of(SCRIPT, &tunables(), &other.replace('\n', "\r\n")), Some(settings));
        for other in
            [SCRIPT.replace("run(", "train("), SCRIPT.replace("64", "1000"), SCRIPT.replace("64", "w"), String::new()]
        {
            assert_eq!(settings_of(SCRIPT, &tunables(), &other), None, "{other}");
        }
    }

    #[test]
    fn proposals_are_new_differ_in_one_to_three_lines_and_repeat_with_the_seed() {
        let mut tried = HashSet::from([Cid::of(SCRIPT.as_bytes())]);
        for seed in 0..200 {
            let proposal = propose(SCRIPT, &tunables(), &[], &tried, Goal::Minimize, seed).unwrap();
            assert_eq!(Some(&proposal), propose(SCRIPT, &tunables(), &[], &tried, Goal::Minimize, seed).as_ref());
            let changed = SCRIPT.lines().zip(proposal.script.lines()).filter(|(a, b)| a != b).count();
            assert!((1..=3).contains(&changed), "{}", proposal.script);
            assert!(settings_of(SCRIPT, &tunables(), &proposal.script).is_some());
            assert_eq!(proposal.description.matches("->").count(), changed);
            assert!(tried.insert(Cid::of(proposal.script.as_bytes())), "proposed twice");
        }
    }

    #[test]
    fn an_exhausted_space_gives_no_proposal() {
        let flag = Tunable { name: "act".into(), ..tunables().remove(1) };
        let other = SCRIPT.replace("'act', 'relu'", "'act', \"gelu\"");
        let tried = HashSet::from([Cid::of(SCRIPT.as_bytes()), Cid::of(other.as_bytes())]);
        assert_eq!(propose(SCRIPT, &[flag], &[], &tried, Goal::Minimize, 1), None);
        assert_eq!(propose(SCRIPT, &[], &[], &HashSet::new(), Goal::Minimize, 1), None);
    }

    #[test]
    fn results_pull_proposals_towards_what_was_good() {
        // The metric is the distance of lr from 0.03, on a logarithmic scale.
        let trial = |lr: f64| Trial {
            settings: TunedValues::from([
                ("lr".into(), TuneValue::Float(lr)),
                ("act".into(), TuneValue::Text("relu".into())),
                ("width".into(), TuneValue::Integer(64)),
            ]),
            metric: Some((lr / 0.03).ln().abs()),
        };
        let trials: Vec<_> = [1e-4, 3e-4, 6e-4, 1e-3, 2e-3, 3e-3, 0.02, 0.025, 0.03, 0.04].map(trial).to_vec();
        let rate = |trials: &[Trial], goal| {
            let lr = |seed| {
                let proposal = propose(SCRIPT, &tunables(), trials, &HashSet::new(), goal, seed).unwrap();
                settings_of(SCRIPT, &tunables(), &proposal.script).unwrap()["lr"].number().unwrap()
            };
            (0..200).filter(|seed| lr(*seed) > 0.01).count()
        };
        let (guided, unguided, reversed) =
            (rate(&trials, Goal::Minimize), rate(&[], Goal::Minimize), rate(&trials, Goal::Maximize));
        assert!(guided > 120 && unguided < 60 && reversed < 60, "{guided} {unguided} {reversed}");
    }

    #[test]
    fn search_led_by_the_tuner_beats_a_blind_one() {
        let loss = |s: &TunedValues| {
            let lr = (s["lr"].number().unwrap() / 0.02).ln().powi(2);
            let width = ((s["width"].number().unwrap() - 200.0) / 100.0).powi(2);
            lr + width + f64::from(u8::from(s["act"] == TuneValue::Text("relu".into())))
        };
        let search = |use_trials: bool, seed: u64| {
            let (mut trials, mut tried, mut best) = (Vec::new(), HashSet::new(), f64::INFINITY);
            for i in 0..40 {
                let seen: &[Trial] = if use_trials { &trials } else { &[] };
                let proposal = propose(SCRIPT, &tunables(), seen, &tried, Goal::Minimize, seed * 1000 + i).unwrap();
                let settings = settings_of(SCRIPT, &tunables(), &proposal.script).unwrap();
                tried.insert(Cid::of(proposal.script.as_bytes()));
                best = best.min(loss(&settings));
                trials.push(Trial { metric: Some(loss(&settings)), settings });
            }
            best
        };
        let mean = |led: bool| (0..20).map(|seed| search(led, seed)).sum::<f64>() / 20.0;
        assert!(mean(true) < 0.8 * mean(false), "{} against {}", mean(true), mean(false));
    }
}
