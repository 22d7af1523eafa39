//! Variables of the environment that set a key for one run: they go before the file, and a flag goes before them.

use std::path::Path;

use serde::Deserialize as _;
use toml::{Table, Value};

use super::{Config, ConfigError, read};

/// How the text of a variable becomes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    /// A whole number or one with a point.
    Number,
    /// Texts with commas between them.
    List,
}

/// The variables, with the keys that they set.
const VARIABLES: [(&str, &str, Kind); 11] = [
    ("SPORE_HOST", "host", Kind::Text),
    ("SPORE_PORT", "port", Kind::Number),
    ("SPORE_P2P_PORT", "p2p_port", Kind::Number),
    ("SPORE_WEB_PORT", "web_port", Kind::Number),
    ("SPORE_WEB_HOST", "web_host", Kind::Text),
    ("SPORE_LISTEN", "listen", Kind::List),
    ("SPORE_PEER", "peer", Kind::List),
    ("SPORE_TASK", "task", Kind::Text),
    ("SPORE_RESOURCE", "resource", Kind::Number),
    ("SPORE_DEVICE", "device", Kind::Text),
    ("SPORE_VERIFY_RATE", "verify_rate", Kind::Number),
];

/// The variable that sets a key. None for a key that no variable sets.
pub fn variable_of(key: &str) -> Option<&'static str> {
    VARIABLES.iter().find(|(_, known, _)| *known == key).map(|(variable, ..)| *variable)
}

/// The configuration of a file, with the variables that are set over it.
///
/// # Errors
/// As [`super::load`], and [`ConfigError::Variable`] for a variable with a value that its key does not take.
pub fn over(path: &Path, file: Config, variable: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
    let set: Vec<_> = VARIABLES
        .iter()
        .filter_map(|(name, key, kind)| {
            Some((*name, *key, *kind, variable(name).filter(|text| !text.trim().is_empty())?))
        })
        .collect();
    if set.is_empty() {
        return Ok(file);
    }
    let text = read(path)?.unwrap_or_default();
    // The file was parsed before, so this text is good.
    let mut table: Table = text.parse().unwrap_or_default();
    for (name, key, kind, text) in set {
        let value = value(kind, text.trim());
        let wrong = |reason: String| ConfigError::Variable { name, reason };
        let alone = Table::from_iter([(key.to_owned(), value.clone())]);
        let alone = Config::deserialize(alone).map_err(|error| wrong(error.message().to_owned()))?;
        alone.check().map_err(|(_, fault)| wrong(fault))?;
        if let Some(other) = super::other_name(key) {
            table.remove(other);
        }
        table.insert(key.to_owned(), value);
    }
    Config::deserialize(table).map_err(|error| ConfigError::Value(error.message().to_owned()))
}

fn value(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::Text => Value::String(text.to_owned()),
        Kind::Number => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => Value::Integer(number),
            (_, Ok(number)) => Value::Float(number),
            // The key refuses it, and names what it takes.
            _ => Value::String(text.to_owned()),
        },
        Kind::List => {
            let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
            Value::Array(texts.map(|text| Value::String(text.to_owned())).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_goes_before_the_file_and_a_bad_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "port = 1\np2p_port = 2\ntask_id = \"old\"\n").unwrap();
        let file = || super::super::load(&path).unwrap().config;
        assert_eq!(over(&path, file(), |_| None).unwrap(), file());
        let set = |name: &str| match name {
            "SPORE_PORT" => Some(" 7 ".to_owned()),
            "SPORE_PEER" => Some("h:1, /dns/h/tcp/2".to_owned()),
            "SPORE_TASK" => Some("12".to_owned()),
            "SPORE_VERIFY_RATE" => Some("1".to_owned()),
            "SPORE_DEVICE" => Some(String::new()),
            _ => None,
        };
        let config = over(&path, file(), set).unwrap();
        assert_eq!((config.port, config.p2p_port, config.task.as_deref()), (7, 2, Some("12")));
        assert_eq!((config.peer.len(), config.verify_rate, &*config.device), (2, Some(1.0), "auto"));
        for (name, text) in [("SPORE_PORT", "70000"), ("SPORE_PORT", "x"), ("SPORE_RESOURCE", "0"), ("SPORE_HOST", "x")]
        {
            let error = over(&path, file(), |asked| (asked == name).then(|| text.to_owned())).unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }

    #[test]
    fn every_variable_sets_a_known_key() {
        for (name, key, _) in VARIABLES {
            assert!(super::super::keys::all().contains(&key), "{name}");
        }
    }
}
