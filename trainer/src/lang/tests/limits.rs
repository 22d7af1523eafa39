//! A script that goes beyond a limit ends soon, with an error.

use super::*;

fn limited(script: &str, change: fn(&mut Limits)) -> String {
    let mut limits = Limits::default();
    change(&mut limits);
    trace(script, &limits).unwrap_err().to_string()
}

#[test]
fn long_scripts_are_refused_before_parsing() {
    let error = refusal(&"#".repeat(70_000));
    assert_eq!(error, "the script has 70000 bytes, the limit is 65536: shorten it");
}

#[test]
fn deep_nesting_is_refused_before_parsing() {
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("{1:", "}"),
        ("-", ""),
        ("not ", ""),
        ("1 if 1 else ", "1"),
        ("lambda: ", "1"),
        ("f(", ")"),
    ] {
        let message = refusal(&format!("x = {}1{}\n", open.repeat(3_000), close.repeat(3_000)));
        assert!(message.starts_with("line 1: "), "{open}: {message}");
    }
    let ladder: String = (0..300).map(|depth| format!("{}if 1:\n", " ".repeat(depth))).collect();
    let message = refusal(&format!("{ladder}{}x = 1\n", " ".repeat(300)));
    assert!(message.contains("train("), "{message}");
}

#[test]
fn endless_recursion_is_refused() {
    let message = refusal("def f(x):\n    return f(x + 1)\nf(1)\n");
    assert!(message.to_lowercase().contains("stack"), "{message}");
}

#[test]
fn endless_loops_are_refused() {
    let nest = "for a in range(90000):\n    for b in range(90000):\n        for c in range(90000):\n            pass\n";
    let message = refusal(nest);
    assert_eq!(message, "line 3: the script has made more than 1000000 calls and loop turns: use fewer");
    let comprehension = refusal("x = [a for a in range(90000) for b in range(90000) if b < 0]");
    assert!(comprehension.ends_with("calls and loop turns: use fewer"), "{comprehension}");
}

#[test]
fn growing_values_are_refused() {
    for body in [
        "x = [0]\nfor i in range(60):\n    x = x + x\n",
        "x = 'a'\nfor i in range(60):\n    x = x + x\n",
        "x = [[0] * 1000 for i in range(90000)]\n",
        "x = []\nfor i in range(90000):\n    for j in range(90):\n        x.append('%d' % j)\n",
    ] {
        let message = refusal(body);
        let bounded = ["MiB: keep lists and texts short", "calls and loop turns: use fewer"];
        assert!(bounded.iter().any(|end| message.ends_with(end)), "{body}: {message}");
    }
    let doubling = refusal("x = [0]\nfor i in range(60):\n    x = x + x\n");
    assert_eq!(doubling, "line 3: the script's values take more than 64 MiB: keep lists and texts short");
}

#[test]
fn deeply_nested_values_do_not_crash_the_tracer() {
    let message = refusal("x = []\nfor i in range(90000):\n    x = [x]\ny = x == x\nprint(len(str(x)))\n");
    assert!(!message.is_empty());
}

#[test]
fn models_too_large_are_refused_at_the_line_that_makes_them() {
    assert_eq!(
        complaint("y = param('w', [100000, 100000])"),
        "line 3: param 'w': with [100000,100000] the parameters have 10000002096 elements together, the limit is 1073741824: use a smaller width or fewer layers"
    );
    assert_eq!(
        complaint("arange(100000).reshape([-1, 1]) * arange(100000)"),
        "line 3: elementwise: [100000,100000] has 10000000000 elements, the limit for one value is 1073741824: use a smaller batch, context or width"
    );
    assert!(limited(SMALL, |limits| limits.nodes = 5).contains("more than 5 operations"));
    assert!(limited(SMALL, |limits| limits.params = 1).contains("more than 1 parameters"));
    assert!(limited(SMALL, |limits| limits.activation_bytes = 10_000).contains("the values of one step pass 0 MiB"));
    assert!(limited(SMALL, |limits| limits.step_flops = 1_000).contains("the limit is 1.0e3"));
    assert!(complaint("for i in range(30000):\n    y = x + 1").contains("more than 20000 operations"));
    assert!(complaint("param('w', [9223372036854775807, 9223372036854775807])").contains("use a smaller width"));
    assert!(complaint("param('w', [99999999999999999999])").starts_with("line 3: "));
}

#[test]
fn loads_files_and_imports_are_no_part_of_the_language() {
    for script in ["load('a.star', 'b')", "open('/etc/passwd')", "import os", "while True:\n    pass", "breakpoint()"] {
        assert!(refusal(script).starts_with("line 1: "), "{script}");
    }
}
