//! Tunables, and rewriting them in the text.

use super::*;

fn map(changes: &[(&str, TuneValue)]) -> BTreeMap<String, TuneValue> {
    changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

#[test]
fn tunables_have_value_kind_line_and_place() {
    let tunables = traced(SMALL).tunables;
    let [width, lr] = tunables.as_slice() else { panic!("{tunables:?}") };
    assert_eq!((width.name.as_str(), &width.value, width.line), ("width", &TuneValue::Integer(16), 4));
    assert_eq!(
        width.kind,
        TuneKind::Choice(vec![TuneValue::Integer(8), TuneValue::Integer(16), TuneValue::Integer(32)])
    );
    assert_eq!(&SMALL[width.span.clone()], "16");
    assert_eq!(lr.kind, TuneKind::Range { min: 0.001, max: 0.1, log: true, integer: false });
    assert_eq!(&SMALL[lr.span.clone()], "0.01");
}

#[test]
fn retune_changes_one_line_for_each_change_and_nothing_else() {
    let changes = map(&[
        ("lr", TuneValue::Float(0.0025)),
        ("layers", TuneValue::Integer(4)),
        ("activation", TuneValue::Text("gelu".to_owned())),
        ("width", TuneValue::Integer(64)),
    ]);
    let changed = retune(BASE, &changes).unwrap();
    let differing: Vec<(&str, &str)> = BASE.lines().zip(changed.lines()).filter(|(a, b)| a != b).collect();
    assert_eq!(BASE.lines().count(), changed.lines().count());
    assert_eq!(differing.len(), 3, "the width was 64 before: {differing:?}");
    assert!(changed.contains("tune(\"lr\", 0.0025, min"));
    assert!(changed.contains("tune(\"activation\", \"gelu\", choices"));
    let read: BTreeMap<String, TuneValue> =
        traced(&changed).tunables.into_iter().map(|tunable| (tunable.name, tunable.value)).collect();
    for (name, value) in &changes {
        assert_eq!(&read[name], value);
    }
    let back = map(&[
        ("lr", TuneValue::Float(0.01)),
        ("layers", TuneValue::Integer(2)),
        ("activation", TuneValue::Text("relu_squared".to_owned())),
    ]);
    assert_eq!(retune(&changed, &back).unwrap(), BASE);
}

#[test]
fn retuned_script_means_the_same_as_one_written_with_its_values() {
    let changes = map(&[("lr", TuneValue::Float(0.02)), ("width", TuneValue::Integer(32))]);
    let written = SMALL.replace("\"width\", 16", "\"width\", 32").replace("\"lr\", 0.01", "\"lr\", 2e-2");
    assert_ne!(written, SMALL);
    assert_eq!(traced(&retune(SMALL, &changes).unwrap()).graph.hash(), traced(&written).graph.hash());
}

#[test]
fn values_outside_and_unknown_names_are_errors() {
    let message = |name: &str, value| retune(SMALL, &map(&[(name, value)])).unwrap_err().to_string();
    assert_eq!(message("lr", TuneValue::Float(1.0)), "tunable 'lr': 1.0 is outside 0.001..0.1");
    assert_eq!(message("width", TuneValue::Integer(9)), "tunable 'width': 9 is not one of the choices 8, 16, 32");
    assert_eq!(message("depth", TuneValue::Integer(9)), "the script has no tunable 'depth'; it declares: width, lr");
}

#[test]
fn declarations_are_checked() {
    let cases = [
        ("tune('a', 1)", "tune 'a': give either choices=[...], or min= and max= (with log=True for ratios)"),
        (
            "tune('a', 1, choices=[1], min=0)",
            "tune 'a': give either choices=[...], or min= and max= (with log=True for ratios)",
        ),
        ("tune('a', 1, choices=[])", "tune 'a': the list of choices is empty"),
        ("tune('a', 3, choices=[1, 2])", "tune 'a': the default 3 is not one of the choices 1, 2"),
        ("tune('a', 3, min=4, max=5)", "tune 'a': the default 3 is outside 4..5"),
        ("tune('a', 3, min=5, max=4)", "tune 'a': min is above max"),
        ("tune('a', 3, min=0, max=4, log=True)", "tune 'a': log=True needs min above 0"),
        ("tune('a', [3], min=0, max=4)", "tune 'a': values are numbers, short texts, True or False, got list"),
        (
            "tune('a', 1 + 2, min=0, max=4)",
            "tune 'a': write the default as a literal (a number, a text in quotes, True or False), so that it can be changed in the text",
        ),
        (
            "[tune('a', 1, min=0, max=4) for i in range(2)]",
            "tune 'a': the name is taken; call tune() once for each and keep the result in a variable",
        ),
        (
            "[tune('a%d' % i, 1, min=0, max=4) for i in range(2)]",
            "tune 'a1': this call declared another name before; write one tune() call for each tunable",
        ),
    ];
    for (call, message) in cases {
        assert_eq!(refusal(call), format!("line 1: {message}"), "{call}");
    }
}

#[test]
fn values_have_the_type_that_the_range_says() {
    let script = format!(
        "a = tune('a', 1, min=0, max=4)\nb = tune('b', 1, min=0, max=4.5)\nc = tune('c', True, choices=[True, False])\nd = tune(default=-2, name='d', choices=[-2, 'x'])\n\
         if [type(v) for v in [a, b, c, d]] != ['int', 'float', 'bool', 'int']:\n    fail([type(v) for v in [a, b, c, d]])\n{SMALL}"
    );
    traced(&script);
    let changed = retune(
        &script,
        &map(&[("c", TuneValue::Flag(false)), ("d", TuneValue::Text("x".to_owned())), ("b", TuneValue::Integer(2))]),
    )
    .unwrap();
    for literal in ["tune('c', False,", "tune(default=\"x\", ", "tune('b', 2.0,"] {
        assert!(changed.contains(literal), "{literal} in {changed}");
    }
}

#[test]
fn every_value_of_a_tunable_of_base_star_gives_a_sound_graph() {
    let retraced = |changes: &[(&str, TuneValue)]| {
        traced(&retune(BASE, &map(changes)).unwrap());
    };
    for tunable in &traced(BASE).tunables {
        let ends = match &tunable.kind {
            TuneKind::Choice(choices) => choices.clone(),
            TuneKind::Range { min, max, integer: true, .. } => {
                vec![TuneValue::Integer(*min as i64), TuneValue::Integer(*max as i64)]
            }
            TuneKind::Range { min, max, .. } => vec![TuneValue::Float(*min), TuneValue::Float(*max)],
        };
        for value in ends {
            retraced(&[(&tunable.name, value)]);
        }
    }
    for width in [32, 48, 64, 96, 128] {
        for heads in [2, 4, 8] {
            retraced(&[("width", TuneValue::Integer(width)), ("heads", TuneValue::Integer(heads))]);
        }
    }
    retraced(&[("warmup", TuneValue::Float(0.3)), ("cooldown", TuneValue::Float(0.65))]);
}
