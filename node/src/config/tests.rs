//! The configuration against real files.

use super::*;

fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    fs::write(&path, text).unwrap();
    (dir, path)
}

#[test]
fn missing_file_means_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    assert_eq!(load(&path).unwrap().config, Config::default());
    assert!(!path.exists());
    assert!(create(&path).unwrap());
    let loaded = load(&path).unwrap();
    assert_eq!((loaded.config, loaded.unknown, loaded.loose), (Config::default(), vec![], false));
    assert!(!create(&path).unwrap());
}

#[test]
fn template_names_only_keys_that_have_a_meaning() {
    let is_setting = |line: &&str| line.starts_with('[') || line.contains(" = ");
    let settings: Vec<_> = TEMPLATE.lines().filter_map(|line| line.strip_prefix("# ")).filter(is_setting).collect();
    let (_dir, path) = file(&settings.join("\n"));
    let loaded = load(&path).unwrap();
    assert_eq!(loaded.unknown, Vec::<String>::new());
    assert_eq!((settings.len(), loaded.config.llm.is_some(), loaded.config.cache.is_some()), (36, true, true));
    assert_eq!(loaded.config.web.names, ["explorer.example.org"]);
}

#[test]
fn unknown_keys_are_reported_with_their_table() {
    let (_dir, path) = file("prot = 1\n[llm]\nprovider = \"a\"\napi_key = \"k\"\nmood = 1\n[future]\nx = 1\n");
    assert_eq!(load(&path).unwrap().unknown, ["future", "llm.mood", "prot"]);
}

#[test]
fn corrupt_file_is_reported_with_its_line_and_without_its_secrets() {
    let (_dir, path) = file("port = 1\n[llm]\napi_key = \"sesame\" x\n");
    let error = load(&path).unwrap_err().to_string();
    assert!(error.contains("config.toml line 3") && !error.contains("sesame"), "{error}");
    assert!(set(&path, "", &[("port", Some(Value::Integer(2)))]).is_err());
    assert!(fs::read_to_string(&path).unwrap().contains("sesame"), "a corrupt file is left alone");
    let (_dir, path) = file("web_port = 8470\nresource = 0\n");
    assert!(load(&path).unwrap_err().to_string().contains("resource"));
    let (_dir, path) = file("\n\nport = \"x\"\n");
    assert!(load(&path).unwrap_err().to_string().contains("line 3"));
}

#[test]
fn value_outside_its_range_is_told_with_what_the_key_takes() {
    let llm = "[llm]\nprovider = \"local\"\n";
    for (text, told) in [
        ("resource = 500", "line 1: resource: integer `500` is not a percentage from 1 to 100"),
        ("resource = 101", "line 1: resource is 101, but must be a percentage from 1 to 100"),
        ("resource = -1", "line 1: resource: integer `-1` is not a percentage from 1 to 100"),
        ("port = 70000", "line 1: port: integer `70000` is not a port from 0 to 65535"),
        ("verify_rate = 1.5", "line 1: verify_rate is 1.5, but must be a share from 0.0 to 1.0"),
        ("verify_rate = nan", "line 1: verify_rate is NaN, but must be a share from 0.0 to 1.0"),
        ("device = 7", "line 1: device: integer `7` is not auto, wgpu or flex"),
        ("cache.max_age_days = -1", "cache.max_age_days: integer `-1` is not a number of days of at least 1"),
        (
            format!("{llm}max_tokens = -1").as_str(),
            "llm.max_tokens: integer `-1` is not a number of tokens of at least 256",
        ),
        (
            format!("{llm}max_tokens = 8").as_str(),
            "line 3: llm.max_tokens is 8, but must be a number of tokens of at least 256",
        ),
        (
            format!("{llm}context = 8").as_str(),
            "line 3: llm.context is 8, but must be a number of tokens of at least 2048",
        ),
        (
            format!("{llm}temperature = 3.0").as_str(),
            "line 3: llm.temperature is 3, but must be a number from 0.0 to 2.0",
        ),
    ] {
        let (_dir, path) = file(text);
        let error = load(&path).unwrap_err().to_string();
        assert!(error.ends_with(told), "{error}");
    }
}

#[test]
fn change_keeps_comments_and_unknown_keys() {
    let (_dir, path) = file("# mine\nport = 1 # old\nfuture = true\n\n[llm]\nprovider = \"a\"\napi_key = \"k\"\n");
    set(&path, "", &[("task", Some(Value::String("abc".into()))), ("port", Some(Value::Integer(2)))]).unwrap();
    set(&path, "llm", &[("model", Some(Value::String("m".into())))]).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(
        text,
        "# mine\nport = 2 # old\nfuture = true\ntask = \"abc\"\n\n[llm]\nprovider = \"a\"\napi_key = \"k\"\nmodel = \"m\"\n"
    );
    let loaded = load(&path).unwrap();
    assert_eq!((loaded.config.port, loaded.unknown), (2, vec!["future".to_owned()]));
    set(&path, "", &[("task", None)]).unwrap();
    assert_eq!(load(&path).unwrap().config.task, None);
}

#[test]
fn removed_table_leaves_the_comments_around_it() {
    let (_dir, path) = file("# a\nport = 1\n\n# b\n[llm]\nprovider = \"a\"\napi_key = \"k\"\n\n# c\n[future]\nx = 1\n");
    set(&path, "", &[("llm", None)]).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "# a\nport = 1\n\n# b\n\n# c\n[future]\nx = 1\n");
    let (_dir, path) = file(TEMPLATE);
    let text = |text: &str| Some(Value::String(text.into()));
    set(&path, "llm", &[("provider", text("a")), ("api_key", text("k"))]).unwrap();
    set(&path, "", &[("llm", None)]).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), TEMPLATE);
}

#[test]
fn file_that_is_not_utf8_is_reported_with_its_line() {
    let (_dir, path) = file("");
    fs::write(&path, b"port = 1\ntask = \"\xff\"\n").unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert!(error.contains("config.toml line 2") && error.contains("UTF-8"), "{error}");
}

#[test]
fn unusual_layouts_can_be_changed() {
    let (_dir, path) = file("peer = [\n  \"a\",\n  \"b\",\n]\nllm = { provider = \"a\", api_key = \"k\" }\n");
    let peers = Value::Array(vec![Value::String("c".into())]);
    set(&path, "", &[("peer", Some(peers))]).unwrap();
    set(&path, "llm", &[("provider", Some(Value::String("b".into())))]).unwrap();
    let config = load(&path).unwrap().config;
    assert_eq!((config.peer, config.llm.unwrap().provider), (vec!["c".to_owned()], "b".to_owned()));
}

#[test]
fn list_keeps_the_comments_between_its_values() {
    let (_dir, path) = file("# dialled first\npeer = [\n  # home\n  \"a\",\n  \"b\", # work\n]\nport = 1\n");
    let list = |peers: &[&str]| Some(Value::Array(peers.iter().map(|peer| Value::String((*peer).into())).collect()));
    set(&path, "", &[("peer", list(&["a", "b", "c"]))]).unwrap();
    set(&path, "", &[("peer", list(&["a", "c"]))]).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(load(&path).unwrap().config.peer, ["a", "c"]);
    assert!(text.contains("# dialled first") && text.contains("# home"), "{text}");
    set(&path, "", &[("peer", list(&["c", "a"]))]).unwrap();
    assert_eq!(load(&path).unwrap().config.peer, ["c", "a"]);
}

#[test]
fn removed_key_leaves_the_comment_above_it() {
    let (_dir, path) = file("# mine\ntask = \"a\"\nport = 1\n# end\n");
    set(&path, "", &[("task", None)]).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "# mine\nport = 1\n# end\n");
    let (_dir, path) = file("# mine\ntask = \"a\"\n\n[future]\nx = 1\n");
    set(&path, "", &[("task", None)]).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "# mine\n\n[future]\nx = 1\n");
    let (_dir, path) = file("# mine\ntask = \"a\"\n");
    set(&path, "", &[("task", None)]).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "# mine\n");
}

#[test]
fn new_key_stands_behind_the_comments_of_the_template() {
    let (_dir, path) = file(TEMPLATE);
    set(&path, "", &[("task", Some(Value::String("a".into())))]).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{TEMPLATE}task = \"a\"\n"));
}

#[test]
fn configuration_of_the_reference_means_the_same_here() {
    let (_dir, path) = file(
        "host = \"127.0.0.1\"\nport = 7000\npeer = ['192.0.2.1:7470']\ntask_id = \"abc\"\nauto_update = true\nupdate_interval_sec = 21600\nupdate_manifest_url = \"u\"\ndata_dir = \"d\"\n",
    );
    let loaded = load(&path).unwrap();
    assert!(loaded.unknown.is_empty(), "{:?}", loaded.unknown);
    let config = loaded.config;
    assert_eq!((config.host, config.port), (IpAddr::from([127, 0, 0, 1]), 7000));
    assert_eq!((config.peer, config.task.as_deref()), (vec!["192.0.2.1:7470".to_owned()], Some("abc")));
    set(&path, "", &[("task", Some(Value::String("def".into())))]).unwrap();
    assert_eq!(load(&path).unwrap().config.task.as_deref(), Some("def"));
    set(&path, "", &[("task", None)]).unwrap();
    assert_eq!(load(&path).unwrap().config.task, None);
    let (_dir, path) = file("task_id = \"\"\nhost = \"localhost\"\n");
    let config = load(&path).unwrap().config;
    assert_eq!((config.task, config.host), (None, std::net::Ipv4Addr::LOCALHOST.into()));
    let (_dir, path) = file("task_id = \"a\"\ntask = \"b\"\nhost = \"\"\n");
    assert!(load(&path).unwrap_err().to_string().contains("task and task_id are the same setting"));
    set(&path, "", &[("task", Some(Value::String("b".into())))]).unwrap();
    assert_eq!(load(&path).unwrap().config.host, std::net::Ipv4Addr::UNSPECIFIED);
}

#[test]
fn language_model_has_bounds_and_the_key_may_be_elsewhere() {
    let (_dir, path) = file("[llm]\nprovider = \"a\"\nmax_token = 1000\ntemperature = 1\ncontext = 8192\n");
    let loaded = load(&path).unwrap();
    let llm = loaded.config.llm.unwrap();
    assert_eq!((llm.max_tokens, llm.temperature, llm.context), (Some(1000), Some(1.0), Some(8192)));
    assert_eq!((llm.api_key, loaded.unknown), (Secret::default(), vec![]));
    for (wrong, key) in
        [("max_tokens = 1", "max_tokens"), ("temperature = 2.5", "temperature"), ("context = 5", "context")]
    {
        let (_dir, path) = file(&format!("[llm]\nprovider = \"a\"\n{wrong}\n"));
        assert!(load(&path).unwrap_err().to_string().contains(&format!("llm.{key} is ")), "{wrong}");
    }
}

#[test]
fn store_budget_has_a_least_value() {
    let (_dir, path) = file("[store]\nmax = \"1 GiB\"\n");
    assert_eq!(load(&path).unwrap().config.store.max, Some(1 << 30));
    let (_dir, path) = file("[store]\nmax = \"1 MiB\"\n");
    let error = load(&path).unwrap_err().to_string();
    assert!(error.contains("line 2: store.max") && error.contains("16 MiB"), "{error}");
}

#[test]
fn cache_is_bounded_in_days_and_bytes() {
    let (_dir, path) = file("[cache]\nmax_age_days = 90\nmax_size = \"20 GiB\"\nmin_size = 1\n");
    let loaded = load(&path).unwrap();
    let bounds = CacheConfig { max_age_days: Some(90), max_size: Some(20 << 30) };
    assert_eq!((loaded.config.cache, loaded.unknown), (Some(bounds), vec!["cache.min_size".to_owned()]));
    let (_dir, path) = file("[cache]\nmax_size = 4096\n");
    assert_eq!(load(&path).unwrap().config.cache.unwrap().max_size, Some(4096));
    for wrong in ["max_size = \"much\"", "max_size = -1", "max_size = 0", "max_age_days = 0"] {
        let (_dir, path) = file(&format!("[cache]\n{wrong}\n"));
        assert!(load(&path).is_err(), "{wrong}");
    }
}

#[test]
fn trust_is_a_list_of_node_ids_and_the_own_key_is_added() {
    let node = |number| spore_protocol::fixtures::identity(number).node_id();
    let (one, two) = (node(1).to_string(), node(2).to_string().to_uppercase());
    let (_dir, path) = file(&format!("trust = [\"{one}\", \"{two}\", \"{one}\"]\n"));
    let config = load(&path).unwrap().config;
    assert_eq!(config.trust, [node(1), node(2)]);
    assert_eq!(config.seeds(Some(node(3))), BTreeSet::from([node(1), node(2), node(3)]));
    // The last is no public key: no node can sign with it.
    for wrong in ["", "Alice", &one[..63], &format!("{one}0"), &"07".repeat(32)] {
        let (_dir, path) = file(&format!("port = 1\ntrust = [\"{one}\", \"{wrong}\"]\n"));
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains("line 2: trust: ") && error.contains("64 hex digits"), "{error}");
    }
    let all: Vec<_> = (0..=MAX_TRUST).map(|number| format!("\"{}\"", node(u8::try_from(number).unwrap()))).collect();
    let (_dir, path) = file(&format!("trust = [{}]\n", all.join(", ")));
    assert!(load(&path).unwrap_err().to_string().contains("trust has 32 keys, but at most 31 are allowed"));
}

#[test]
fn secrets_are_not_shown() {
    assert_eq!(format!("{:?}", Secret("sesame".into())), "(secret)");
}

#[test]
fn proxies_are_addresses_and_networks() {
    let (_dir, path) = file("[web]\nproxies = [\"127.0.0.1\", \"10.0.0.0/8\", \"::1\"]\n");
    let loaded = load(&path).unwrap();
    assert!(loaded.config.web.proxies.has("10.1.2.3".parse().unwrap()) && loaded.unknown.is_empty());
    for wrong in ["proxy", "10.0.0.0/33", ""] {
        let (_dir, path) = file(&format!("[web]\nproxies = [{wrong:?}]\n"));
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains("web.proxies"), "{error}");
    }
}

#[test]
fn names_of_reverse_proxies_are_host_names() {
    let (_dir, path) = file("[web]\nnames = [\"explorer.example.org\", \"box\"]\n");
    let loaded = load(&path).unwrap();
    assert_eq!((loaded.config.web.names.len(), loaded.unknown.len()), (2, 0));
    for name in ["https://explorer.example.org", "explorer.example.org:443", "", "a b", "a..b"] {
        let (_dir, path) = file(&format!("[web]\nnames = [{name:?}]\n"));
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains("web.names"), "{error}");
    }
}

#[test]
fn linked_configuration_stays_a_link_and_its_target_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (path, target) = (dir.path().join("config.toml"), dir.path().join("mine.toml"));
    fs::write(&target, "# mine\nport = 1\n").unwrap();
    std::os::unix::fs::symlink("mine.toml", &path).unwrap();
    set(&path, "", &[("port", Some(Value::Integer(2)))]).unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&target).unwrap(), "# mine\nport = 2\n");
    // A link whose target is not there yet.
    fs::remove_file(&target).unwrap();
    set(&path, "", &[("port", Some(Value::Integer(3)))]).unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(load(&target).unwrap().config.port, 3);
}

#[test]
fn key_is_changed_and_removed_under_the_name_of_the_reference_too() {
    let (_dir, path) = file("[llm]\nprovider = \"a\"\napi_key = \"k\"\nmax_token = 1000\n");
    set(&path, "llm", &[("max_tokens", Some(Value::Integer(2000)))]).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap().matches("max_token").count(), 1);
    assert_eq!(load(&path).unwrap().config.llm.unwrap().max_tokens, Some(2000));
    let (_dir, path) = file("task_id = \"old\"\n[llm]\nprovider = \"a\"\napi_key = \"k\"\nmax_token = 1000\n");
    set(&path, "llm", &[("max_tokens", None)]).unwrap();
    set(&path, "", &[("task", None)]).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("max_token") && !text.contains("task_id"), "{text}");
}
