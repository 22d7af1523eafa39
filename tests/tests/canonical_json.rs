//! Compares canonical JSON with Python's own `json`, with which the existing network signs.
//!
//! Each test starts one Python process and sends it texts. A text that both read must have the same
//! canonical bytes and hash. A text that Python reads and we refuse must have a flaw that the Python script
//! finds too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    cell::RefCell,
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use proptest::{
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestRunner},
};
use spore_protocol::{
    Cid,
    json::{MAX_DEPTH, MAX_VALUES, Value},
};
use spore_tests::skip::skip;

/// Texts for each property. They take about ten seconds, most of them in Python.
const CASES: u32 = 20_000;

/// What Python says about one text.
enum PythonReading {
    /// Not JSON, for this reason.
    Refused(String),
    Accepted {
        canonical: String,
        sha256: String,
        /// Codes of [`spore_protocol::Reject`]: the flaws that Python ignores and a strict reader refuses.
        flaws: BTreeSet<String>,
    },
}

/// A Python process that reads one text a line and writes one answer a line.
struct Python {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Python {
    /// Starts the process. None without Python: the test is reported as skipped.
    fn start() -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/canonical.py");
        let mut command = Command::new("python3");
        // Isolated mode: the environment and the user's packages cannot change the answers.
        command.args(["-I", script, &MAX_DEPTH.to_string(), &MAX_VALUES.to_string()]);
        let Ok(mut child) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
            skip("python3 is missing");
            return None;
        };
        let questions = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, questions, answers })
    }

    fn ask(&mut self, text: &str) -> PythonReading {
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        writeln!(self.questions.as_mut().unwrap(), "{hex}").expect("Python reads");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("Python answers");
        let answer: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        let field = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("no {name}: {line}")).to_owned();
        if answer.get("refused").is_some() {
            return PythonReading::Refused(field("refused"));
        }
        let flaws = spore_tests::net::texts(&answer["flaws"]).into_iter().collect();
        PythonReading::Accepted { canonical: field("canonical"), sha256: field("sha256"), flaws }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // The process ends when its standard input is closed.
        drop(self.questions.take());
        let _ = self.child.wait();
    }
}

/// Checks that both agree on the text, and returns whether they accept it.
fn agree(python: &mut Python, text: &str) -> Result<bool, TestCaseError> {
    match (Value::parse(text.as_bytes()), python.ask(text)) {
        (Ok(ours), PythonReading::Accepted { canonical, sha256, flaws }) => {
            prop_assert!(flaws.is_empty(), "we accept {text:?} although it has {flaws:?}");
            prop_assert_eq!(&ours.canonical(), &canonical, "canonical text of {:?}", text);
            prop_assert_eq!(Cid::of(canonical.as_bytes()).to_string(), sha256);
            let again = Value::parse(canonical.as_bytes()).map(|value| value.canonical());
            prop_assert_eq!(again.as_ref(), Ok(&canonical), "canonical text is its own canonical text");
            Ok(true)
        }
        (Err(reject), PythonReading::Accepted { flaws, .. }) => {
            prop_assert!(flaws.contains(reject.code()), "{text:?}: we say {reject}, Python finds {flaws:?}");
            Ok(false)
        }
        (Err(_), PythonReading::Refused(_)) => Ok(false),
        (Ok(_), PythonReading::Refused(reason)) => {
            Err(TestCaseError::fail(format!("Python refuses {text:?}: {reason}")))
        }
    }
}

/// Runs a property over texts with one Python process.
fn check(texts: impl Strategy<Value = String>, property: impl Fn(&mut Python, &str) -> Result<(), TestCaseError>) {
    let Some(python) = Python::start() else { return };
    let python = RefCell::new(python);
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let result = runner.run(&texts, |text| property(&mut python.borrow_mut(), &text));
    result.unwrap_or_else(|e| panic!("{e}"));
}

/// Any character, and often one at a border of a rule: control characters, characters with a short escape,
/// DEL, C1, line separators that JSON does not escape, neighbours of the surrogates, the first and last of
/// each UTF-8 length, byte-order marks, non-characters, characters beyond 16 bits.
fn character() -> impl Strategy<Value = char> {
    const BORDERS: &[char] = &[
        '\0',
        '\u{7}',
        '\u{8}',
        '\t',
        '\n',
        '\u{b}',
        '\u{c}',
        '\r',
        '\u{1f}',
        ' ',
        '"',
        '/',
        '\\',
        '~',
        '\u{7f}',
        '\u{80}',
        '\u{85}',
        '\u{a0}',
        '\u{7ff}',
        '\u{800}',
        '\u{2028}',
        '\u{2029}',
        '\u{d7ff}',
        '\u{e000}',
        '\u{fdd0}',
        '\u{feff}',
        '\u{fffd}',
        '\u{fffe}',
        '\u{ffff}',
        '\u{10000}',
        '\u{1f344}',
        '\u{10ffff}',
    ];
    prop_oneof![any::<char>(), select(BORDERS), proptest::char::range('\0', '\u{ff}')]
}

/// A character in one of the spellings that JSON allows. `choice` selects one; not all exist for each character.
fn spell(c: char, choice: u8) -> String {
    let escaped = |upper: bool| {
        let unit = |unit: &u16| if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
        c.encode_utf16(&mut [0; 2]).iter().map(unit).collect()
    };
    let short = match c {
        '"' | '\\' | '/' => Some(c),
        '\n' => Some('n'),
        '\r' => Some('r'),
        '\t' => Some('t'),
        '\u{8}' => Some('b'),
        '\u{c}' => Some('f'),
        _ => None,
    };
    let raw = c >= ' ' && c != '"' && c != '\\';
    match (choice % 4, short) {
        (0, Some(letter)) => format!("\\{letter}"),
        (1, _) => escaped(true),
        (2, _) => escaped(false),
        _ if raw => c.to_string(),
        _ => escaped(false),
    }
}

fn string() -> impl Strategy<Value = String> {
    let spelled = (character(), any::<u8>()).prop_map(|(c, choice)| spell(c, choice));
    prop::collection::vec(spelled, 0..12).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

/// Finite floats: any bits, subnormals, neighbours of powers of ten, where digits and notation change, and
/// numbers of few bits such as single precision, which often lie half-way between two shortest texts.
fn float() -> impl Strategy<Value = f64> {
    let power = (-326..=308_i32, -3..=3_i64).prop_map(|(exponent, steps)| {
        let power: f64 = format!("1e{exponent}").parse().unwrap();
        f64::from_bits(power.to_bits().saturating_add_signed(steps))
    });
    let bits = any::<u64>().prop_map(f64::from_bits).boxed();
    let subnormal = (0_u64..1 << 52).prop_map(f64::from_bits);
    let single = any::<u32>().prop_map(|bits| f64::from(f32::from_bits(bits)));
    let metric = (0.5_f32..8.0).prop_map(f64::from);
    let few =
        (any::<u64>(), 0..64_u32, -80..40_i32).prop_map(|(bits, drop, at)| (bits >> drop) as f64 * 2_f64.powi(at));
    let near = (-8..20_i32, any::<u32>()).prop_map(|(exponent, digits)| f64::from(digits) * 10_f64.powi(exponent - 9));
    (prop_oneof![bits, power.clone(), power, subnormal, single, metric, few.clone(), few, near], any::<bool>())
        .prop_map(|(x, negative)| if negative { -x } else { x })
        .prop_filter("JSON has no such number", |x| x.is_finite())
}

/// A float in one of the spellings that JSON allows.
fn spell_float(x: f64, choice: u8) -> String {
    let dotted = |text: String| if text.contains('.') { text } else { text + ".0" };
    match choice % 6 {
        0 => dotted(x.to_string()),
        1 => format!("{x:e}"),
        2 => format!("{x:E}").replace("E-", "E-000"),
        3 => format!("{x:.17e}"),
        4 => format!("{x:.25e}").replace('e', "e+").replace("+-", "-"),
        _ => format!("{x:?}"),
    }
}

/// Integers in the range of i64 and u64, often at its ends.
fn integer() -> impl Strategy<Value = String> {
    let ends = select(vec![
        i128::from(i64::MIN),
        i128::from(i64::MIN) + 1,
        -1,
        0,
        1,
        1 << 53,
        (1 << 53) + 1,
        i128::from(i64::MAX),
        i128::from(i64::MAX) + 1,
        i128::from(u64::MAX),
    ]);
    let any = prop_oneof![any::<i64>().prop_map(i128::from), any::<u64>().prop_map(i128::from), ends];
    prop_oneof![9 => any.prop_map(|i| i.to_string()), 1 => Just("-0".to_owned())]
}

fn number() -> impl Strategy<Value = String> {
    let spelled = (integer(), select(vec![".0", "e0", "E+2", ".000", "e-3", ".5e1"])).prop_map(|(i, end)| i + end);
    prop_oneof![integer(), spelled, (float(), any::<u8>()).prop_map(|(x, choice)| spell_float(x, choice))]
}

fn blanks() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 1 => select(vec![" ", "\n", "\t", "\r\n", "  "])]
}

fn distinct(members: &[((String, String), &'static str)]) -> bool {
    let keys = members.iter().map(|((key, _), _)| Value::parse(key.as_bytes()).unwrap().canonical());
    keys.collect::<BTreeSet<_>>().len() == members.len()
}

/// A text that a strict reader accepts.
fn strict() -> impl Strategy<Value = String> {
    let word = select(vec!["null", "true", "false"]).prop_map(str::to_owned);
    let leaf = prop_oneof![1 => word, 4 => number(), 4 => string()];
    leaf.prop_recursive(8, 48, 6, |inner| {
        let array = prop::collection::vec((inner.clone(), blanks()), 0..6).prop_map(|items| {
            let items: Vec<_> = items.iter().map(|(item, blank)| format!("{blank}{item}{blank}")).collect();
            format!("[{}]", items.join(","))
        });
        let member = ((string(), inner), blanks());
        let object =
            prop::collection::vec(member, 0..6).prop_filter("distinct keys", |m| distinct(m)).prop_map(|all| {
                let members: Vec<_> = all.iter().map(|((k, v), b)| format!("{b}{k}{b}:{b}{v}{b}")).collect();
                format!("{{{}}}", members.join(","))
            });
        prop_oneof![array, object]
    })
}

/// A strict text with a few fragments inserted or replaced: mostly still JSON, often with a flaw.
fn flawed() -> impl Strategy<Value = String> {
    const FRAGMENTS: &[&str] = &[
        "",
        ",",
        ":",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "\\",
        "0",
        "-",
        ".",
        "e",
        "1e999",
        "-1e400",
        "NaN",
        "Infinity",
        "-Infinity",
        "null",
        "18446744073709551616",
        "-9223372036854775809",
        "\"\\ud800\"",
        "\"\\udfff\\ud800\"",
        "\\ud83c",
        "\\udf44",
        "\\u",
        "{\"a\":1,\"a\":1}",
        "\"a\":1,",
        "[[[[[[[[[[[[[[[[[[[[",
        "]]]]]]]]]]]]]]]]]]]]",
        "\u{feff}",
        "\u{a0}",
        "\u{0}",
        "\n",
        "//",
        "'",
        "+1",
        "01",
        "1.",
        ".5",
        "0x1",
    ];
    let edit = (any::<Index>(), 0..3_usize, select(FRAGMENTS));
    (strict(), prop::collection::vec(edit, 0..4)).prop_map(|(mut text, edits)| {
        for (at, removed, fragment) in edits {
            let borders: Vec<_> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let start = at.index(borders.len());
            let end = (start + removed).min(borders.len() - 1);
            text.replace_range(borders[start]..borders[end], fragment);
        }
        text
    })
}

#[test]
fn canonical_text_and_hash_of_strict_json_equal_those_of_python() {
    check(strict(), |python, text| {
        prop_assert!(agree(python, text)?, "we refuse {text:?}, which is strict JSON");
        Ok(())
    });
}

#[test]
fn numbers_are_printed_as_python_prints_them() {
    check(prop::collection::vec(number(), 1..40).prop_map(|all| format!("[{}]", all.join(","))), |python, text| {
        prop_assert!(agree(python, text)?, "we refuse {text:?}, which is strict JSON");
        Ok(())
    });
}

#[test]
fn text_that_only_python_accepts_has_a_flaw_that_python_finds() {
    check(flawed(), |python, text| agree(python, text).map(|_| ()));
}

#[test]
fn flaws_that_python_ignores_are_refused_by_name() {
    let Some(mut python) = Python::start() else { return };
    let nested = |depth: usize| "[".repeat(depth) + "0" + &"]".repeat(depth);
    let many = |count: usize| format!("[{}0]", "0,".repeat(count - 2));
    for (text, code) in [
        (r#"{"a":1,"a":1}"#.to_owned(), "duplicate_key"),
        (r#"{"a":1,"\u0061":2}"#.to_owned(), "duplicate_key"),
        (r#"[{"x":{"é":0,"\u00e9":0}}]"#.to_owned(), "duplicate_key"),
        ("NaN".to_owned(), "not_json"),
        ("[-Infinity]".to_owned(), "not_json"),
        ("1e309".to_owned(), "number_out_of_range"),
        ("18446744073709551616".to_owned(), "number_out_of_range"),
        ("-9223372036854775809".to_owned(), "number_out_of_range"),
        ("9".repeat(4000), "number_out_of_range"),
        (r#""\ud83c""#.to_owned(), "lone_surrogate"),
        (r#"{"\udf44":0}"#.to_owned(), "lone_surrogate"),
        (r#""\udf44\ud83c""#.to_owned(), "lone_surrogate"),
        (r#""\ud83c\ud83c\udf44""#.to_owned(), "lone_surrogate"),
        (nested(MAX_DEPTH + 1), "too_deep"),
        (many(MAX_VALUES + 1), "too_many_values"),
    ] {
        let shown: String = text.chars().take(60).collect();
        assert_eq!(Value::parse(text.as_bytes()).unwrap_err().code(), code, "{shown}");
        let PythonReading::Accepted { flaws, .. } = python.ask(&text) else { panic!("Python refuses {shown}") };
        assert_eq!(flaws.into_iter().collect::<Vec<_>>(), [code], "{shown}");
    }
    for text in [nested(MAX_DEPTH), many(MAX_VALUES)] {
        assert!(agree(&mut python, &text).unwrap(), "a text at the limit is allowed");
    }
}
