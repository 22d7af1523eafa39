//! Imports the identity, the configuration and the known peers of a sporemesh node.
//!
//! A plan is made before anything is changed. A setting that this node has already stays.

use std::{fs, io::ErrorKind};

use serde::Serialize;
use spore_base::{
    peer::Peer,
    peer_address::PeerAddress,
    private_file::{FileError, read_text},
};
use spore_bridge::{KNOWN, book_file};
use spore_protocol::NodeId;
use toml::{Table, Value};

use super::{ImportError, ImportKind, Importer};
use crate::{
    config::{self, Config},
    data_dir::DataDir,
    identity_file,
};

/// The plan for the key of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityPlan {
    /// The source has no key.
    None,
    /// The key is this node's key already.
    Same,
    /// The key becomes this node's key.
    Take,
    /// The user excluded the key.
    LeftOut,
}

/// The plan for each key of the source's `config.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ConfigPlan {
    /// Imported.
    pub taken: Vec<String>,
    /// This node has another value, which stays.
    pub kept: Vec<String>,
    /// Without a meaning here.
    pub not_applicable: Vec<String>,
    #[serde(skip)]
    values: Vec<(&'static str, Value)>,
}

/// The plan for everything but objects.
#[derive(Clone, Debug, Serialize)]
pub struct SettingsPlan {
    pub identity: IdentityPlan,
    /// The node of the source.
    pub node_id: Option<NodeId>,
    pub config: ConfigPlan,
    /// A process has the databases of the source open, or ended without closing them.
    pub in_use: bool,
    /// The source is this node's own data directory.
    pub in_place: bool,
    /// Parts of the source that could not be read.
    #[serde(skip)]
    pub problems: Vec<String>,
}

/// The reason for a known peer that does not fit into the file.
const TOO_MANY: &str = "the list of known peers is full";

/// Keys with the same meaning in both configurations: their name, our name, and the default that the reference writes.
fn shared_keys() -> [(&'static str, &'static str, Value); 4] {
    [
        ("host", "host", Value::String("0.0.0.0".into())),
        ("port", "port", Value::Integer(7470)),
        ("peer", "peer", Value::Array(Vec::new())),
        ("task_id", "task", Value::String(String::new())),
    ]
}

impl SettingsPlan {
    /// Makes a plan from both directories. Changes nothing.
    ///
    /// # Errors
    /// [`ImportError::OtherIdentity`] unless the identity is excluded, and files that cannot be read.
    pub fn plan(source: &DataDir, data: &DataDir, with_identity: bool) -> Result<Self, ImportError> {
        let in_place = match (source.root().canonicalize(), data.root().canonicalize()) {
            (Ok(source), Ok(own)) => source == own,
            _ => false,
        };
        let mut problems = Vec::new();
        let (identity, node_id) = plan_identity(source, data, with_identity)?;
        let config = if in_place { ConfigPlan::default() } else { plan_config(source, data, &mut problems)? };
        let in_use = is_in_use(source)?;
        Ok(Self { identity, node_id, config, in_use, in_place, problems })
    }

    /// Carries the plan out.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn apply(&self, source: &DataDir, data: &DataDir) -> Result<(), ImportError> {
        if self.identity == IdentityPlan::Take {
            identity_file::adopt(&source.identity(), &data.identity())?;
        }
        if !self.config.values.is_empty() {
            let values: Vec<_> = self.config.values.iter().map(|(key, value)| (*key, Some(value.clone()))).collect();
            config::set(&data.config(), "", &values)?;
        }
        Ok(())
    }
}

/// Whether a database of the source has a write-ahead log beside it.
fn is_in_use(source: &DataDir) -> Result<bool, ImportError> {
    let folder = source.root().join("db");
    let names = match fs::read_dir(&folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let names = names.map_err(FileError::io(&folder))?;
    Ok(names.iter().any(|name| name.as_encoded_bytes().ends_with(b".sqlite-wal")))
}

fn plan_identity(
    source: &DataDir,
    data: &DataDir,
    wanted: bool,
) -> Result<(IdentityPlan, Option<NodeId>), ImportError> {
    if !wanted {
        return Ok((IdentityPlan::LeftOut, None));
    }
    let Some(theirs) =
        identity_file::load(&source.identity()).map_err(ImportError::SourceKey)?.map(|found| found.node_id())
    else {
        return Ok((IdentityPlan::None, None));
    };
    match identity_file::load(&data.identity())?.map(|found| found.node_id()) {
        None => Ok((IdentityPlan::Take, Some(theirs))),
        Some(ours) if ours == theirs => Ok((IdentityPlan::Same, Some(theirs))),
        Some(ours) => Err(ImportError::OtherIdentity { path: source.root().to_owned(), theirs, ours }),
    }
}

fn plan_config(source: &DataDir, data: &DataDir, problems: &mut Vec<String>) -> Result<ConfigPlan, ImportError> {
    let mut plan = ConfigPlan::default();
    let path = source.config();
    let theirs = match read_text(&path) {
        Ok(None) => return Ok(plan),
        Ok(Some(text)) => text.parse::<Table>().map_err(|error| error.message().to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let theirs = match theirs {
        Ok(theirs) => theirs,
        Err(what) => {
            problems.push(format!("{}: {what}; none of its settings is imported", path.display()));
            return Ok(plan);
        }
    };
    // A corrupt file of our own is an error before anything is changed.
    config::load(&data.config())?;
    let ours: Table = read_text(&data.config())?.unwrap_or_default().parse().unwrap_or_default();
    let shared = shared_keys();
    for (key, value) in theirs {
        let Some((_, our_key, default)) = shared.iter().find(|(their_key, ..)| *their_key == key) else {
            plan.not_applicable.push(key);
            continue;
        };
        let own = ours.get(*our_key).or_else(|| ours.get(&key));
        if value == *default || own == Some(&value) {
            continue;
        }
        if own.is_some() {
            plan.kept.push(key);
        } else if is_understood(our_key, &value) {
            plan.values.push((our_key, value));
            plan.taken.push(key);
        } else {
            problems.push(format!("{}: {key} = {value} has no meaning here and is not imported", path.display()));
        }
    }
    Ok(plan)
}

/// Whether a node would start with this value.
fn is_understood(key: &str, value: &Value) -> bool {
    let table = Table::from_iter([(key.to_owned(), value.clone())]);
    let config: Result<Config, _> = table.try_into();
    config.is_ok_and(|config| config.peer.iter().all(|peer| peer.parse::<Peer>().is_ok()))
}

/// Adds the known peers of the source to ours, up to the limit of the file.
///
/// # Errors
/// When a file cannot be read or written.
pub fn merge_peers(
    source: &DataDir,
    data: &DataDir,
    importer: &mut Importer<'_>,
    write: bool,
) -> Result<(), FileError> {
    let theirs = book_file::load(&source.known_peers())?;
    if theirs == book_file::PeerFile::default() {
        return Ok(());
    }
    let path = data.known_peers();
    let mut merged: Vec<PeerAddress> = book_file::load(&path)?.peers;
    // Peers that are not written to the file do not count.
    merged.retain(PeerAddress::is_legible_to_the_reference);
    let before = merged.len();
    let lines = [&theirs.unreadable, &theirs.beyond].map(Vec::len).into_iter().sum::<usize>();
    let tally = importer.tally(ImportKind::Peers);
    tally.found += (theirs.peers.len() + lines + theirs.cut.iter().len()) as u64;
    let mut refused = Vec::new();
    for peer in theirs.peers {
        if merged.contains(&peer) {
            tally.already_here += 1;
        } else if !peer.is_legible_to_the_reference() {
            refused.push((
                peer,
                "not_kept",
                "the list of known peers has no IPv6 addresses; add the address to `peer` in config.toml",
            ));
        } else if merged.len() >= KNOWN {
            refused.push((peer, "too_many", TOO_MANY));
        } else {
            tally.imported += 1;
            merged.push(peer);
        }
    }
    for (peer, reason, detail) in refused {
        importer.refuse(ImportKind::Peers, &peer.to_string(), None, reason, detail.into());
    }
    let unreadable = theirs.unreadable.into_iter().map(|line| (line, "not_an_address", "not a host and a port"));
    let beyond = theirs.beyond.into_iter().map(|line| (line, "too_many", TOO_MANY));
    let cut = theirs.cut.into_iter().map(|line| (line, "too_long", "this line and those after it are not read"));
    for (line, reason, detail) in unreadable.chain(beyond).chain(cut) {
        importer.refuse(ImportKind::Peers, "", u64::try_from(line).ok(), reason, detail.into());
    }
    if write && merged.len() > before {
        book_file::save(&path, &merged)?;
    }
    importer.progress(ImportKind::Peers, None);
    Ok(())
}
