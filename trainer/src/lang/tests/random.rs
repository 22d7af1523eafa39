//! Tracing any text ends without a panic, and with the same result each time.

use proptest::prelude::*;

use super::*;

/// Small limits, so that a mutation which asks for a lot ends soon.
fn tight() -> Limits {
    Limits { ticks: 50_000, heap_bytes: 4 << 20, nodes: 2_000, ..Limits::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gives_a_graph_or_an_error(text in "\\PC{0,300}") {
        let _ = trace(&text, &tight());
    }

    #[test]
    fn any_soup_of_the_languages_words_gives_a_graph_or_an_error(words in prop::collection::vec(prop::sample::select(vec![
        "def", "f", "x", "(", ")", "[", "]", ":", "\n", "\n    ", "return", "for", "in", "range", "if", "else", "lambda", "=", "+", "-", "*", "/", ",", ".", "1", "0", "-1", "2.5",
        "'a'", "tune", "param", "linear", "train", "model", "embedding", "tokens", "shape", "reshape", "None", "True", "default", "choices", "f'{x}'", "#", "\"\"\"",
    ]), 0..60)) {
        let _ = trace(&words.join(" "), &tight());
    }

    #[test]
    fn a_damaged_script_gives_the_same_answer_twice(at in 0..2_000_usize, len in 0..20_usize, new in "[ -~\n]{0,6}", base in any::<bool>()) {
        let script = if base { BASE } else { SMALL };
        let at = at % script.len();
        let mut bytes = script.as_bytes().to_vec();
        bytes.splice(at..(at + len).min(script.len()), new.bytes());
        let text = String::from_utf8_lossy(&bytes);
        let first = trace(&text, &tight());
        let second = trace(&text, &tight());
        prop_assert_eq!(&first, &second);
        if let Ok(traced) = first {
            prop_assert_eq!(rewrite(&text, &traced.tunables, &BTreeMap::new()).unwrap(), text.as_ref());
        }
    }
}
