//! `spore script` and `spore try`: a person's own script, checked and tried by hand.

use std::fs;

use serde_json::Value;
use spore_tests::{TestNet, spore};

/// A script that trains in a moment.
const SMALL: &str = "
def model(tokens):
    return linear(embedding(param('embed', [256, 8]), tokens), 'head', 256)

train(model = model, batch = 2, context = 16, optimizer = adamw(0.01))
";

#[test]
fn script_that_is_begun_passes_its_check_and_is_tidy() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let file = net.dir().join("own.star").display().to_string();
    spore(&dir, &["script", "new", &file]).expect_code(0);
    assert_eq!(spore(&dir, &["script", "new", &file]).code, 2, "an existing file is left alone");
    let check = spore(&dir, &["script", "check", &file, "--json"]).expect_code(0).stdout;
    let check: Value = serde_json::from_str(&check).unwrap();
    assert_eq!(check["ok"], true);
    assert!(check["milliseconds"].as_u64().unwrap() < 60_000 && check["parameters"].as_u64().unwrap() > 1000);
    let graph = spore(&dir, &["script", "graph", &file]).expect_code(0).stdout;
    assert!(graph.contains("embed") && graph.contains("Memory"), "{graph}");
    spore(&dir, &["script", "fmt", "--check", &file]).expect_code(0);
    assert!(!dir.exists(), "a check creates nothing");
}

#[test]
fn fault_of_a_script_is_shown_with_its_line() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let path = net.dir().join("wrong.star");
    let file = path.display().to_string();
    fs::write(&path, SMALL.replace("'head', 256", "'head', 200")).unwrap();
    let shown = spore(&dir, &["script", "check", &file]).expect_code(1).stdout;
    assert!(shown.contains("200") && shown.contains("256") && shown.contains("hint:"), "{shown}");
    fs::write(&path, SMALL.replace("embedding(", "embeding(")).unwrap();
    let shown = spore(&dir, &["script", "check", &file]).expect_code(1).stdout;
    assert!(shown.contains("wrong.star:3:") && shown.contains(">    3 |"), "{shown}");
    assert_eq!(spore(&dir, &["try", &file]).code, 1, "a wrong script is not tried");
    assert!(!dir.exists(), "a wrong script creates nothing");
}

#[test]
fn tidied_script_has_the_same_graph() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let path = net.dir().join("untidy.star");
    let file = path.display().to_string();
    fs::write(&path, format!("\n\n{}   \n\n", SMALL.replace(":\n    return", ":  \n    return"))).unwrap();
    spore(&dir, &["script", "fmt", "--check", &file]).expect_code(1);
    spore(&dir, &["script", "fmt", &file]).expect_code(0);
    spore(&dir, &["script", "fmt", "--check", &file]).expect_code(0);
    assert_eq!(fs::read_to_string(&path).unwrap(), SMALL.trim_start());
}

#[test]
fn script_is_tried_without_a_node_and_its_record_is_signed() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let path = net.dir().join("own.star");
    let file = path.display().to_string();
    fs::write(&path, SMALL).unwrap();
    let dry = spore(&dir, &["try", &file, "--device", "flex", "--dry-run"]).expect_code(0).stdout;
    assert!(dry.contains("Builds on") && dry.contains("Nothing was trained"), "{dry}");
    let tried = ["try", &file, "--device", "flex", "--steps", "20", "--seeds", "3", "-m", "a tiny table", "--json"];
    let done: Value = serde_json::from_str(&spore(&dir, &tried).expect_code(0).stdout).unwrap();
    let id = done["id"].as_str().unwrap();
    assert_eq!((&done["steps"], &done["noise"]["runs"]), (&Value::from(20), &Value::from(3)), "{done}");
    let shown = spore(&dir, &["show", id]).expect_code(0).stdout;
    assert!(shown.contains("a tiny table") && shown.contains("20 steps"), "{shown}");
    fs::write(&path, format!("# another comment\n{SMALL}")).unwrap();
    spore(&dir, &["try", &file, "--device", "flex", "--parent", id])
        .expect_code(2)
        .expect_stderr(&["is the same experiment as", "spore show"]);
}

#[test]
fn comparison_of_two_experiments_says_what_differs() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let world = crate::world::seed(&dir);
    let (root, best) = (world.root.to_string(), world.best.to_string());
    let shown = spore(&dir, &["compare", &root, &best]).expect_code(0).stdout;
    assert!(shown.contains("-0.250000 (") && shown.contains("is better)"), "{shown}");
    assert!(shown.contains("not known to be more than noise"), "{shown}");
    assert!(shown.contains("does not have both"), "{shown}");
    let same = spore(&dir, &["compare", &root, &root]).expect_code(0).stdout;
    assert!(same.contains("are the same"), "{same}");
    assert_eq!(spore(&dir, &["compare", &root]).code, 2, "one is not enough");
}
