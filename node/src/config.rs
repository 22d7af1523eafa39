//! `config.toml`: what a person has settled for this node. Flags of a single run go before it.
//!
//! The file stays the person's own: unknown keys are kept and told of, comments survive a change,
//! and a file that cannot be understood is never overwritten. It may hold an API key of a language
//! model, so it is readable by its owner alone, and no message may print that key.

mod edit;
pub mod size;

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use serde::{Deserialize, Serialize};
use spore_base::private_file::{FileError, make_private, write_private};
use toml::{Table, Value};

use self::edit::{assign, edit};

/// Port for peers of the existing network, which dial it: the reference's own.
pub const DEFAULT_PORT: u16 = 7470;
/// Port of libp2p, TCP and QUIC.
pub const DEFAULT_P2P_PORT: u16 = 7471;
/// Port of the explorer and the API, as in the reference.
pub const DEFAULT_WEB_PORT: u16 = 8470;
/// Share of the machine that training may take, in percent.
pub const DEFAULT_RESOURCE: u8 = 100;
/// The configuration could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path} line {line}: {message}")]
    Corrupt { path: String, line: usize, message: String },
    #[error("{0}")]
    Value(String),
    #[error(transparent)]
    File(#[from] FileError),
}

/// Everything that `config.toml` can hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where peers of the existing network are listened for; unspecified: all addresses.
    #[serde(deserialize_with = "host")]
    pub host: IpAddr,
    pub port: u16,
    /// Port of libp2p, where `listen` names no addresses.
    pub p2p_port: u16,
    pub web_port: u16,
    /// Anything but a loopback address lets others read the explorer.
    pub web_host: IpAddr,
    /// Multiaddrs that libp2p listens on; none: all addresses of the machine, TCP and QUIC, at `p2p_port`.
    pub listen: Vec<String>,
    /// Peers dialled at start, see [`spore_base::peer::Peer`].
    pub peer: Vec<String>,
    /// The task followed; none, or empty as the reference writes it: the most active one.
    #[serde(alias = "task_id", deserialize_with = "nonempty")]
    pub task: Option<String>,
    /// Percent of the machine for training, 1..=100.
    pub resource: u8,
    /// `auto`, `wgpu` or `flex`.
    pub device: String,
    /// Share of compatible records that are re-run, 0.0..=1.0; none: the mode's own.
    pub verify_rate: Option<f64>,
    /// The bounds of the artifacts kept; none: all are.
    pub cache: Option<CacheConfig>,
    pub llm: Option<LlmConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: IpAddr::from([0, 0, 0, 0]),
            port: DEFAULT_PORT,
            p2p_port: DEFAULT_P2P_PORT,
            web_port: DEFAULT_WEB_PORT,
            web_host: IpAddr::from([127, 0, 0, 1]),
            listen: Vec::new(),
            peer: Vec::new(),
            task: None,
            resource: DEFAULT_RESOURCE,
            device: "auto".into(),
            verify_rate: None,
            cache: None,
            llm: None,
        }
    }
}

/// What the scripts and datasets kept may come to, as `spore gc` has it; looked at once an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheConfig {
    /// What was not used for as many days is dropped.
    pub max_age_days: Option<u64>,
    /// Beyond, the least recently used are dropped; in bytes.
    #[serde(deserialize_with = "size::or_none")]
    pub max_size: Option<u64>,
}

/// The language model that proposes experiments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LlmConfig {
    /// Such as `groq` or `anthropic`.
    pub provider: String,
    pub api_key: Secret,
    pub model: Option<String>,
    pub base_url: Option<String>,
}

/// Text that no log and no message shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

const KEYS: [&str; 13] = [
    "host",
    "port",
    "p2p_port",
    "web_port",
    "web_host",
    "listen",
    "peer",
    "task",
    "resource",
    "device",
    "verify_rate",
    "cache",
    "llm",
];
/// What else the reference writes. It asks for nothing that this program could do, so nobody is told.
const REFERENCE_KEYS: [&str; 5] = ["task_id", "auto_update", "update_interval_sec", "update_manifest_url", "data_dir"];
const CACHE_KEYS: [&str; 2] = ["max_age_days", "max_size"];
const LLM_KEYS: [&str; 4] = ["provider", "api_key", "model", "base_url"];

/// A configuration read, and the keys in it that mean nothing here.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub unknown: Vec<String>,
    /// Other users could read the file.
    pub loose: bool,
}

/// Reads a configuration; the defaults when there is no file. Changes nothing.
///
/// # Errors
/// [`ConfigError::Corrupt`] with the line, [`ConfigError::Value`] for a value out of range.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    use std::os::unix::fs::PermissionsExt;
    let text = read(path)?.unwrap_or_default();
    let (table, config) = parse(path, &text)?;
    let known = |key: &str| KEYS.contains(&key) || REFERENCE_KEYS.contains(&key);
    let unknown = table.keys().filter(|key| !known(key)).cloned();
    let unknown = unknown.chain(unknown_in(&table, "cache", &CACHE_KEYS)).chain(unknown_in(&table, "llm", &LLM_KEYS));
    let unknown = unknown.collect();
    let loose = std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0);
    Ok(Loaded { config, unknown, loose })
}

fn unknown_in<'a>(table: &'a Table, section: &'a str, known: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    let nested = table.get(section).and_then(Value::as_table);
    let keys = nested.into_iter().flat_map(Table::keys).filter(|key| !known.contains(&key.as_str()));
    keys.map(move |key| format!("{section}.{key}"))
}

/// Writes the defaults, each key told in a comment, unless there is a file.
///
/// # Errors
/// When the file cannot be written.
pub fn create(path: &Path) -> Result<bool, ConfigError> {
    if read(path)?.is_some() {
        make_private(path)?;
        return Ok(false);
    }
    write_private(path, TEMPLATE.as_bytes())?;
    Ok(true)
}

/// Sets keys (in a table, or at the top with an empty `table`; `None` removes) and leaves the rest
/// of the file as it is.
///
/// # Errors
/// As [`load`]; a file that is corrupt is left alone.
pub fn set(path: &Path, table: &str, values: &[(&str, Option<Value>)]) -> Result<(), ConfigError> {
    let mut text = match read(path)? {
        Some(text) => text,
        None => TEMPLATE.to_owned(),
    };
    // The reference's name for the task must not stand beside ours.
    let alias = (table.is_empty() && values.iter().any(|(key, _)| *key == "task")).then_some(("task_id", None));
    for (key, value) in alias.iter().chain(values) {
        let mut wanted = parse_table(path, &text)?;
        assign(&mut wanted, table, key, value.clone());
        let edited = edit(&text, table, key, value.as_ref());
        // The edit knows only the usual layout. Where it does not come out as meant, the file is
        // written anew: right before pretty.
        text = if edited.parse::<Table>().is_ok_and(|got| got == wanted) {
            edited
        } else {
            toml::to_string(&wanted).map_err(|e| ConfigError::Value(e.to_string()))?
        };
    }
    parse(path, &text)?;
    Ok(write_private(path, text.as_bytes())?)
}

impl Config {
    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |text: String| Err(ConfigError::Value(text));
        if !(1..=100).contains(&self.resource) {
            return refuse(format!("resource is {}, but must be 1 to 100 (percent)", self.resource));
        }
        if !["auto", "wgpu", "flex"].contains(&self.device.as_str()) {
            return refuse(format!("device is {:?}, but must be auto, wgpu or flex", self.device));
        }
        if self.verify_rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
            return refuse("verify_rate must be 0.0 to 1.0".into());
        }
        if self.cache.as_ref().is_some_and(|cache| cache.max_age_days == Some(0) || cache.max_size == Some(0)) {
            return refuse("cache: 0 is no bound; leave max_age_days or max_size out to keep all".into());
        }
        Ok(())
    }
}

fn nonempty<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(value)?.filter(|text| !text.is_empty()))
}

/// As the reference reads it: an empty host means all addresses, and `localhost` is no name to look up.
fn host<'de, D: serde::Deserializer<'de>>(value: D) -> Result<IpAddr, D::Error> {
    match String::deserialize(value)?.as_str() {
        "" => Ok(Ipv4Addr::UNSPECIFIED.into()),
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        text => text.parse().map_err(|_| serde::de::Error::custom("host must be an IP address")),
    }
}

/// The file's text; none when there is no file.
fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(FileError::io(path)(e).into()),
    };
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let before = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        let line = before.filter(|byte| **byte == b'\n').count() + 1;
        ConfigError::Corrupt { path: path.display().to_string(), line, message: "this is not UTF-8".into() }
    })
}

fn parse(path: &Path, text: &str) -> Result<(Table, Config), ConfigError> {
    let table = parse_table(path, text)?;
    if table.contains_key("task") && table.contains_key("task_id") {
        return Err(ConfigError::Value("config.toml: task and task_id are one setting: leave one of them out".into()));
    }
    let config: Config = toml::from_str(text).map_err(|e| corrupt(path, text, &e))?;
    config.check()?;
    Ok((table, config))
}

fn parse_table(path: &Path, text: &str) -> Result<Table, ConfigError> {
    text.parse::<Table>().map_err(|e| corrupt(path, text, &e))
}

fn corrupt(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    // Only the message: the error's own text would quote the line, which may hold a key.
    ConfigError::Corrupt { path: path.display().to_string(), line, message: error.message().to_owned() }
}

const TEMPLATE: &str = r#"# Spore's configuration. Flags of `spore run` go before it.

# Ports: for peers of the existing network (TCP), of libp2p (TCP and QUIC), of the explorer and its API.
# port = 7470
# p2p_port = 7471
# web_port = 8470
# Where peers of the existing network are listened for; 0.0.0.0 means all addresses.
# host = "0.0.0.0"
# Anything but a loopback address lets others read the explorer.
# web_host = "127.0.0.1"

# Where libp2p listens, if not on all addresses at its port.
# listen = ["/ip4/0.0.0.0/tcp/7471", "/ip4/0.0.0.0/udp/7471/quic-v1"]

# The peers dialled at start: host:port of the existing network, multiaddrs of libp2p.
# peer = ["peer.example.org:7470", "/dns/relay.example.org/tcp/7471"]

# The task followed; without it the most active one (`spore task use ID`).
# task = "..."

# Percent of the machine for training, and the device: auto, wgpu or flex.
# resource = 100
# device = "auto"

# Share of others' records that are re-run, 0.0 to 1.0; without it a researcher re-runs some and a
# verifier all.
# verify_rate = 0.25

# What the scripts and datasets kept may come to, looked at once an hour (`spore gc` says what goes).
# [cache]
# max_age_days = 90
# max_size = "20 GiB"

# The language model that proposes experiments (`spore set PROVIDER KEY`).
# [llm]
# provider = "groq"
# api_key = "..."
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn no_file_means_the_defaults() {
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
    fn every_key_is_known() {
        let llm = LlmConfig {
            provider: "x".into(),
            api_key: Secret("k".into()),
            model: Some("m".into()),
            base_url: Some("u".into()),
        };
        let cache = CacheConfig { max_age_days: Some(1), max_size: Some(2) };
        let all = Config {
            task: Some("t".into()),
            verify_rate: Some(1.0),
            cache: Some(cache),
            llm: Some(llm),
            ..Config::default()
        };
        let table = Table::try_from(all).unwrap();
        assert_eq!(
            table.keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>(),
            KEYS.into_iter().collect()
        );
        for (section, known) in [("cache", &CACHE_KEYS[..]), ("llm", &LLM_KEYS)] {
            let nested = table[section].as_table().unwrap();
            assert_eq!(
                nested.keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>(),
                known.iter().copied().collect()
            );
        }
    }

    #[test]
    fn a_corrupt_file_is_named_with_its_line_and_without_its_secrets() {
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
    fn a_change_leaves_comments_and_unknown_keys() {
        let (_dir, path) = file("# mine\nport = 1 # old\nfuture = true\n\n[llm]\nprovider = \"a\"\napi_key = \"k\"\n");
        set(&path, "", &[("task", Some(Value::String("abc".into()))), ("port", Some(Value::Integer(2)))]).unwrap();
        set(&path, "llm", &[("model", Some(Value::String("m".into())))]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "# mine\nport = 2\nfuture = true\ntask = \"abc\"\n\n[llm]\nprovider = \"a\"\napi_key = \"k\"\nmodel = \"m\"\n"
        );
        let loaded = load(&path).unwrap();
        assert_eq!((loaded.config.port, loaded.unknown), (2, vec!["future".to_owned()]));
        set(&path, "", &[("task", None)]).unwrap();
        assert_eq!(load(&path).unwrap().config.task, None);
    }

    #[test]
    fn a_table_is_taken_away_without_the_comments_around_it() {
        let (_dir, path) =
            file("# a\nport = 1\n\n# b\n[llm]\nprovider = \"a\"\napi_key = \"k\"\n\n# c\n[future]\nx = 1\n");
        set(&path, "", &[("llm", None)]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "# a\nport = 1\n\n# b\n\n# c\n[future]\nx = 1\n");
        let (_dir, path) = file(TEMPLATE);
        let text = |text: &str| Some(Value::String(text.into()));
        set(&path, "llm", &[("provider", text("a")), ("api_key", text("k"))]).unwrap();
        set(&path, "", &[("llm", None)]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), TEMPLATE);
    }

    #[test]
    fn a_file_that_is_no_text_is_named_with_its_line() {
        let (_dir, path) = file("");
        fs::write(&path, b"port = 1\ntask = \"\xff\"\n").unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains("config.toml line 2") && error.contains("UTF-8"), "{error}");
    }

    #[test]
    fn an_unusual_layout_is_changed_all_the_same() {
        let (_dir, path) = file("peer = [\n  \"a\",\n  \"b\",\n]\nllm = { provider = \"a\", api_key = \"k\" }\n");
        let peers = Value::Array(vec![Value::String("c".into())]);
        set(&path, "", &[("peer", Some(peers))]).unwrap();
        set(&path, "llm", &[("provider", Some(Value::String("b".into())))]).unwrap();
        let config = load(&path).unwrap().config;
        assert_eq!((config.peer, config.llm.unwrap().provider), (vec!["c".to_owned()], "b".to_owned()));
    }

    #[test]
    fn a_configuration_of_the_reference_means_the_same_here() {
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
        assert_eq!((config.task, config.host), (None, Ipv4Addr::LOCALHOST.into()));
        let (_dir, path) = file("task_id = \"a\"\ntask = \"b\"\nhost = \"\"\n");
        assert!(load(&path).unwrap_err().to_string().contains("task and task_id are one setting"));
        set(&path, "", &[("task", Some(Value::String("b".into())))]).unwrap();
        assert_eq!(load(&path).unwrap().config.host, Ipv4Addr::UNSPECIFIED);
    }

    #[test]
    fn the_cache_is_bounded_in_days_and_bytes() {
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
    fn secrets_are_not_shown() {
        assert_eq!(format!("{:?}", Secret("sesame".into())), "(secret)");
    }
}
