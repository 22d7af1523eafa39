//! `config.toml`: the settings that a user chose for this node. A flag of `spore run` overrides a key for one run.
//!
//! The file belongs to the user. Unknown keys stay in it and are reported, a change keeps comments and layout, and a
//! file that cannot be parsed is never overwritten. The file may hold the API key of a language model, so only its
//! owner can read it, and no message prints that key.

mod edit;
pub mod environment;
mod keys;
pub mod size;
mod values;

pub use values::{ip_address, node_id};

use std::{collections::BTreeSet, fmt, fs, io, net::IpAddr, path::Path};

use serde::Deserialize;
use spore_api::proxies::Proxies;
use spore_base::private_file::{FileError, make_private, write_private};
use spore_protocol::{NodeId, trust::MAX_SEEDS};
use toml::{Table, Value};

/// TCP port for peers of the existing network. The reference uses the same one.
pub const DEFAULT_PORT: u16 = 7470;
/// Port of libp2p, TCP and QUIC.
pub const DEFAULT_P2P_PORT: u16 = 7471;
/// Port of the explorer and the API, as in the reference.
pub const DEFAULT_WEB_PORT: u16 = 8470;
/// Share of the machine that training may use, in percent.
pub const DEFAULT_RESOURCE: u8 = 100;
/// Most keys in `trust`. With the node's own key they are [`MAX_SEEDS`].
pub const MAX_TRUST: usize = MAX_SEEDS - 1;

/// The file that [`create`] writes: every key in a comment, with its default.
const TEMPLATE: &str = include_str!("config/template.toml");

/// Keys of the reference's `config.toml` that have no meaning here. They are not reported as unknown: the two programs
/// may share the file, and the user wrote nothing wrong. The reference's `task_id` is an alias of `task`.
const REFERENCE_KEYS: [&str; 4] = ["auto_update", "update_interval_sec", "update_manifest_url", "data_dir"];

/// Keys, with the other name that the reference has for each.
const OTHER_NAMES: [(&str, &str); 2] = [("task", "task_id"), ("llm.max_tokens", "llm.max_token")];

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not TOML, or a value has the wrong type.
    #[error("{path} line {line}: {message}")]
    Corrupt { path: String, line: usize, message: String },
    /// A value is out of its range.
    #[error("config.toml: {0}")]
    Value(String),
    /// A variable of the environment has a value that its key does not take.
    #[error("{name}: {reason}")]
    Variable { name: &'static str, reason: String },
    #[error(transparent)]
    File(#[from] FileError),
}

/// All settings of `config.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Address on which the bridge accepts peers of the existing network. The unspecified address means all addresses.
    #[serde(deserialize_with = "values::host")]
    pub host: IpAddr,
    /// TCP port for peers of the existing network.
    pub port: u16,
    /// Port of libp2p. Not used when `listen` names addresses.
    pub p2p_port: u16,
    pub web_port: u16,
    /// Address of the explorer. Any address but a loopback one lets others read the explorer.
    #[serde(deserialize_with = "values::web_host")]
    pub web_host: IpAddr,
    /// Multiaddrs on which libp2p listens. Empty: all addresses of the machine, TCP and QUIC, at `p2p_port`.
    pub listen: Vec<String>,
    /// Peers that the node dials when it starts, see [`spore_base::peer`].
    pub peer: Vec<String>,
    /// The task that the node works on. None, or empty as the reference writes it: the built-in task,
    /// or the busiest one that a trusted node created.
    #[serde(alias = "task_id", deserialize_with = "values::nonempty")]
    pub task: Option<String>,
    /// Percent of the machine that training may use, 1..=100.
    pub resource: u8,
    /// `auto`, `wgpu` or `flex`.
    pub device: String,
    /// Share of other nodes' records that the node re-runs, 0.0..=1.0. None: the default of the mode.
    pub verify_rate: Option<f64>,
    /// Nodes whose measurements decide what holds here, at most [`MAX_TRUST`]. The node's own key is trusted too.
    #[serde(deserialize_with = "values::trust")]
    pub trust: Vec<NodeId>,
    /// Bounds of the artifact cache. None: the cache is unbounded.
    pub cache: Option<CacheConfig>,
    pub store: StoreConfig,
    pub web: WebConfig,
    pub admin: AdminConfig,
    pub webhook: Option<WebhookConfig>,
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
            trust: Vec::new(),
            cache: None,
            store: StoreConfig::default(),
            web: WebConfig::default(),
            admin: AdminConfig::default(),
            webhook: None,
            llm: None,
        }
    }
}

/// Bounds of the cache of scripts and datasets. Housekeeping applies them once an hour, by the rules of `spore gc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CacheConfig {
    /// Days after its last use until an artifact is dropped.
    pub max_age_days: Option<u64>,
    /// Bytes of all artifacts together. Beyond them, the least recently used artifacts are dropped.
    #[serde(deserialize_with = "size::or_none")]
    pub max_size: Option<u64>,
}

/// Least budget of the store: below, the tables themselves and what is remembered of dropped objects take most of it.
pub const STORE_LEAST: u64 = 16 << 20;

/// The disk budget of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct StoreConfig {
    /// Bytes that the database and the artifacts that are not pinned may take. None: a tenth of the disk, 10 GiB at most.
    #[serde(deserialize_with = "size::or_none")]
    pub max: Option<u64>,
}

/// The explorer behind a reverse proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct WebConfig {
    /// Host names, besides this machine's own, by which the explorer may be asked, without a port.
    pub names: Vec<String>,
    /// Addresses and networks of the proxies that are believed where a request comes from.
    #[serde(deserialize_with = "values::proxies")]
    pub proxies: Proxies,
}

/// The endpoints for the operator: /metrics, /livez and /readyz.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AdminConfig {
    /// None: there are no such endpoints.
    pub port: Option<u16>,
    #[serde(deserialize_with = "values::web_host")]
    pub host: IpAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { port: None, host: IpAddr::from([127, 0, 0, 1]) }
    }
}

/// Where the node tells its news.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WebhookConfig {
    /// `http` or `https`. May hold a secret of the service behind it.
    pub url: Secret,
    /// The hardware class whose best is told, such as `RTX_4090`. None: that of the node's own device.
    pub class: Option<String>,
}

impl WebhookConfig {
    /// What is out of its range.
    fn fault(&self) -> Option<(&'static str, String)> {
        let url = reqwest::Url::parse(&self.url.0);
        let is_good = url.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        (!is_good)
            .then(|| ("webhook.url", "webhook.url must be an address that begins with http:// or https://".to_owned()))
    }
}

/// The language model that proposes experiments.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct LlmConfig {
    /// Such as `groq` or `anthropic`.
    pub provider: String,
    /// Empty when the server needs none, or when the environment holds it.
    #[serde(default)]
    pub api_key: Secret,
    pub model: Option<String>,
    pub base_url: Option<String>,
    /// Most tokens of an answer. None: the server's own limit. The reference's name is `max_token`.
    #[serde(alias = "max_token")]
    pub max_tokens: Option<u32>,
    /// 0.0..=2.0. None: the server's default.
    pub temperature: Option<f64>,
    /// Tokens that question and answer may have together. None: not known.
    pub context: Option<u64>,
    /// Most tokens of a day (UTC). None: no cap.
    pub tokens_by_day: Option<u64>,
    /// Most cost of a day, in the currency of the prices. None: no cap.
    pub cost_by_day: Option<f64>,
    /// Price of a million tokens of questions, and of answers. None: not known, so it counts as 0.
    pub price_prompt: Option<f64>,
    pub price_answer: Option<f64>,
}

/// Fewest tokens of an answer: a small script.
const LLM_TOKENS_LEAST: u32 = 256;
/// Fewest tokens of a context in which a script and its change fit.
const LLM_CONTEXT_LEAST: u64 = 2048;
/// The highest temperature that any API takes.
const LLM_TEMPERATURE_MOST: f64 = 2.0;

impl LlmConfig {
    /// What is out of its range.
    fn fault(&self) -> Option<(&'static str, String)> {
        let tokens = self.max_tokens.filter(|tokens| *tokens < LLM_TOKENS_LEAST);
        let context = self.context.filter(|context| *context < LLM_CONTEXT_LEAST);
        let temperature = self.temperature.filter(|t| !(0.0..=LLM_TEMPERATURE_MOST).contains(t));
        let tokens = tokens.map(|n| ("llm.max_tokens", outside("llm.max_tokens", n)));
        let context = context.map(|n| ("llm.context", outside("llm.context", n)));
        let temperature = temperature.map(|t| ("llm.temperature", outside("llm.temperature", t)));
        let money = [
            ("llm.cost_by_day", self.cost_by_day),
            ("llm.price_prompt", self.price_prompt),
            ("llm.price_answer", self.price_answer),
        ];
        let negative = money.into_iter().find_map(|(key, amount)| {
            let amount = amount.filter(|amount| !(amount.is_finite() && *amount >= 0.0))?;
            Some((key, outside(key, amount)))
        });
        let unpriced = self.cost_by_day.is_some() && self.price_prompt.is_none() && self.price_answer.is_none();
        let unpriced = unpriced.then(|| {
            ("llm.cost_by_day", "needs llm.price_prompt and llm.price_answer, of a million tokens".to_owned())
        });
        tokens.or(context).or(temperature).or(negative).or(unpriced)
    }
}

/// Text that no log line and no message shows.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A configuration, and facts about the file that it comes from.
#[derive(Debug)]
pub struct LoadedConfig {
    pub config: Config,
    /// Keys of the file that have no meaning here, such as `llm.mood`.
    pub unknown: Vec<String>,
    /// For each of these keys: its line, and the key that was meant if one is near. In words for people.
    pub notes: Vec<String>,
    /// Other users of the machine can read the file.
    pub loose: bool,
}

/// Reads a configuration. Returns the defaults when there is no file. Changes nothing.
///
/// # Errors
/// [`ConfigError::Corrupt`] with the line, [`ConfigError::Value`] for a value out of range.
pub fn load(path: &Path) -> Result<LoadedConfig, ConfigError> {
    use std::os::unix::fs::PermissionsExt;
    let text = read(path)?.unwrap_or_default();
    let (config, unknown) = parse(path, &text)?;
    let loose = fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0);
    let notes = unknown.iter().map(|key| unknown_key(&text, key)).collect();
    Ok(LoadedConfig { config, unknown, notes, loose })
}

/// The keys that hold a value, without other names of theirs.
pub fn value_keys() -> Vec<&'static str> {
    let all = keys::all();
    let is_table =
        |key: &str| all.iter().any(|other| other.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')));
    all.iter().copied().filter(|key| !is_table(key) && !OTHER_NAMES.iter().any(|(_, other)| other == key)).collect()
}

/// The name that the reference has for a key.
pub fn other_name(key: &str) -> Option<&'static str> {
    OTHER_NAMES.iter().find(|(own, _)| *own == key).map(|(_, other)| *other)
}

/// The known key that a misspelt one means, if one is near enough.
pub fn nearest_key(key: &str) -> Option<&'static str> {
    keys::nearest(key)
}

/// The text of a file. Empty when there is no file.
///
/// # Errors
/// When the file cannot be read.
pub fn text(path: &Path) -> Result<String, ConfigError> {
    Ok(read(path)?.unwrap_or_default())
}

/// The line of a key in the text of a file, from 1.
pub fn line_of_key(text: &str, key: &str) -> Option<usize> {
    keys::span_of(text, key).map(|span| line_of(text, span.start))
}

/// Writes the defaults, each key explained in a comment. Leaves an existing file as it is. Returns whether it wrote.
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

/// Sets keys, or removes those whose value is `None`. With an empty `table` the keys are at the top of the file.
/// The rest of the file stays as it is.
///
/// # Errors
/// As [`load`]. A file that cannot be parsed stays as it is.
pub fn set(path: &Path, table: &str, values: &[(&str, Option<Value>)]) -> Result<(), ConfigError> {
    let text = read(path)?.unwrap_or_else(|| TEMPLATE.to_owned());
    let mut document = edit::document(&text).map_err(|e| corrupt(path, &text, e.span(), e.message()))?;
    for (key, value) in values {
        // The reference's name of the key must not stand beside ours.
        let dotted = if table.is_empty() { (*key).to_owned() } else { format!("{table}.{key}") };
        if let Some(other) = other_name(&dotted) {
            edit::remove(&mut document, table, other.rsplit('.').next().unwrap_or(other));
        }
        match value {
            Some(value) => {
                let value = edit::value(value).map_err(|e| ConfigError::Value(format!("{key}: {e}")))?;
                edit::put(&mut document, table, key, value);
            }
            None => edit::remove(&mut document, table, key),
        }
    }
    let text = document.to_string();
    parse(path, &text)?;
    Ok(write_private(path, text.as_bytes())?)
}

impl Config {
    /// The keys whose measurements decide what holds here: the configured ones, and `own`, this node's own.
    pub fn seeds(&self, own: Option<NodeId>) -> BTreeSet<NodeId> {
        self.trust.iter().copied().chain(own).collect()
    }

    /// The first key whose value is out of its range, and what is wrong with the value.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let refuse = |key, text: String| Err((key, text));
        if !(1..=100).contains(&self.resource) {
            return refuse("resource", outside("resource", self.resource));
        }
        if !["auto", "wgpu", "flex"].contains(&self.device.as_str()) {
            return refuse("device", outside("device", format!("{:.80?}", self.device)));
        }
        if let Some(rate) = self.verify_rate.filter(|rate| !(0.0..=1.0).contains(rate)) {
            return refuse("verify_rate", outside("verify_rate", rate));
        }
        if self.trust.len() > MAX_TRUST {
            return refuse("trust", format!("has {} keys, but at most {MAX_TRUST} are allowed", self.trust.len()));
        }
        if let Some(name) = self.web.names.iter().find(|name| !is_host_name(name)) {
            return refuse("web.names", format!("{name:.80?} is not a host name, such as \"explorer.example.org\""));
        }
        if let Some((key, text)) = self.webhook.as_ref().and_then(WebhookConfig::fault) {
            return refuse(key, text);
        }
        if self.cache.as_ref().is_some_and(|cache| cache.max_age_days == Some(0) || cache.max_size == Some(0)) {
            let text = "0 is not a bound; without max_age_days or max_size nothing is dropped";
            return refuse("cache", text.into());
        }
        if let Some(max) = self.store.max.filter(|max| *max < STORE_LEAST) {
            return refuse("store.max", format!("is {max} bytes, but must be at least {} MiB", STORE_LEAST >> 20));
        }
        if let Some((key, text)) = self.llm.as_ref().and_then(LlmConfig::fault) {
            return refuse(key, text);
        }
        Ok(())
    }
}

/// What is said of a value that the parser took, but that is out of the range of its key.
fn outside(key: &str, value: impl fmt::Display) -> String {
    let takes = keys::takes(key).map(|takes| format!(", but must be {takes}"));
    format!("is {value}{}", takes.unwrap_or_default())
}

/// Whether a text can be the host name of a request: letters, digits, dots and hyphens, without a scheme or a port.
fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    text.split('.').all(label)
}

/// Reads the file. None when there is no file.
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

/// The settings of a file, and the keys that nothing reads.
fn parse(path: &Path, text: &str) -> Result<(Config, Vec<String>), ConfigError> {
    let refused = |e: toml::de::Error| corrupt(path, text, e.span(), e.message());
    let table: Table = text.parse().map_err(refused)?;
    if table.contains_key("task") && table.contains_key("task_id") {
        return Err(ConfigError::Value("task and task_id are the same setting; only one of them may be there".into()));
    }
    let mut unknown = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| {
        let key = dotted(&path);
        if !REFERENCE_KEYS.contains(&key.as_str()) {
            unknown.push(key);
        }
    };
    let deserializer = toml::Deserializer::parse(text).map_err(refused)?;
    let config: Config = serde_ignored::deserialize(deserializer, &mut note).map_err(refused)?;
    config.check().map_err(|(key, fault)| {
        let line = keys::span_of(text, key).map(|span| format!(" line {}", line_of(text, span.start)));
        let colon = if key == "cache" { ":" } else { "" };
        ConfigError::Value(format!(
            "{}{key}{colon} {fault}",
            line.map(|line| format!("{}: ", line.trim())).unwrap_or_default()
        ))
    })?;
    Ok((config, unknown))
}

/// A key as a user writes it. `serde_ignored` would put a question mark for each `Option` on the way to it.
fn dotted(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    let below = |parent: &Path<'_>, last: &str| match dotted(parent).as_str() {
        "" => last.to_owned(),
        parent => format!("{parent}.{last}"),
    };
    match path {
        Path::Root => String::new(),
        Path::Map { parent, key } => below(parent, key),
        Path::Seq { parent, index } => below(parent, &index.to_string()),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => dotted(parent),
    }
}

/// An error at a place in the file. The parser's own text would quote the line, which may hold an API key.
fn corrupt(path: &Path, text: &str, span: Option<std::ops::Range<usize>>, message: &str) -> ConfigError {
    let start = span.map_or(0, |span| span.start);
    let key = keys::key_at(text, start);
    let message = keys::in_words(key.as_deref(), message);
    let message = match key {
        Some(key) if !message.starts_with(&key) => format!("{key}: {message}"),
        _ => message,
    };
    ConfigError::Corrupt { path: path.display().to_string(), line: line_of(text, start), message }
}

/// The line of a place in the file, from 1.
fn line_of(text: &str, place: usize) -> usize {
    text.get(..place).unwrap_or_default().matches('\n').count() + 1
}

/// A sentence about a key that nothing reads.
fn unknown_key(text: &str, key: &str) -> String {
    let line = keys::span_of(text, key).map(|span| format!(" line {}", line_of(text, span.start))).unwrap_or_default();
    let meant = keys::nearest(key).map(|key| format!("; {key} was meant, perhaps")).unwrap_or_default();
    format!("config.toml{line}: the unknown key {key} has no effect{meant}")
}

#[cfg(test)]
mod tests;
