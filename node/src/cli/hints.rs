//! Advice for each error of the libraries. This is the only place that answers an error of theirs with
//! a command or a flag.

use spore_api::problem::{ApiError, ProblemKind};
use spore_base::private_file::FileError;
use spore_bridge::ListenError;
use spore_ingest::IngestFailure;
use spore_network::NetworkError;
use spore_storage::{StoreError, sporemesh::SporemeshError};

use super::error::{CliError, ErrorKind, Hint};
use crate::{
    config::ConfigError,
    genesis::GenesisError,
    identity_file::KeyError,
    import::ImportError,
    runtime::{NodeFailure, ServiceEnded, StartError, WebError},
};

/// The hint for every damage of the store.
pub const REPAIR: &str = "stop the node if one runs, then run `spore db check --repair`";
/// The hint where an import ended early.
const IMPORT_AGAIN: &str = "import again: everything that was imported stays, and the rest follows";

impl From<FileError> for CliError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { path, source } => Self::io(path.display(), &source),
            FileError::Corrupt { .. } => Self::failed(error.to_string())
                .hint("restore the file from a copy, or move it away to start without it"),
        }
    }
}

impl From<KeyError> for CliError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::File(error) => error.into(),
            KeyError::Malformed(_) => Self::failed(error.to_string())
                .hint("restore the key from a copy, or move the file away to start with a new identity"),
            KeyError::Missing(_) => Self::failed(error.to_string()),
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::File(error) => error.into(),
            ConfigError::Corrupt { .. } => Self::failed(error.to_string())
                .hint("correct that line, or move the file away to start with the defaults"),
            ConfigError::Variable { .. } => {
                Self::failed(error.to_string()).hint("correct that variable of the environment, or unset it")
            }
            ConfigError::Value(_) => Self::failed(error.to_string()).hint("correct that value in config.toml"),
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::Locked { .. } => ErrorKind::Locked,
            StoreError::NotFound(_) | StoreError::NoBackup(_) => ErrorKind::NotFound,
            StoreError::NotEmpty(_) => ErrorKind::Usage,
            _ => ErrorKind::Failed,
        };
        let hint = match &error {
            StoreError::Locked { .. } => "stop that process first, or choose another directory with `--data-dir DIR`",
            StoreError::NotFound(_) => {
                "make a store with `spore init` or `spore run`, or choose another directory with `--data-dir DIR`"
            }
            StoreError::DiskFull => {
                "free some space: a running node writes again within seconds, and has lost nothing that it acknowledged"
            }
            StoreError::Corrupt(_) => REPAIR,
            StoreError::NewerSchema { .. } => "use a newer spore",
            StoreError::OlderSchema { .. } => {
                "export the store with the spore that made it (`spore export FILE`), and import that file here"
            }
            StoreError::HashMismatch { .. } | StoreError::DamagedArtifact { .. } => {
                "fetch the artifact again from another peer; `spore db verify` beside a running node removes damaged ones"
            }
            StoreError::TooLarge { .. } => "leave the task to nodes that allow larger artifacts",
            StoreError::TooManyPins { .. } => "unpin some artifacts first: `spore gc unpin CID`",
            StoreError::BadPins { .. } => "correct that file, or remove it to unpin all artifacts",
            StoreError::Cancelled => "nothing was changed",
            StoreError::NotEmpty(_) => {
                "add `--replace` to put the backup in its place, or choose an empty directory with `--data-dir DIR`"
            }
            StoreError::NoBackup(_) => "make a backup with `spore db backup DIR`",
            StoreError::CompactionFailed { .. } => "the file store/LOG in the data directory has the reason",
            StoreError::Rocks(_) => "check the disk if this happens again",
            StoreError::Io { .. } => "check the path and its permissions",
            StoreError::ReadOnly | StoreError::Source { .. } => return Self::new(kind, error.to_string()),
        };
        Self::new(kind, error.to_string()).hint(hint)
    }
}

/// The hint of the command line for a problem that the API reports. None: the hint of the API fits.
pub const fn hint_for_problem(problem: ProblemKind) -> Option<&'static str> {
    match problem {
        ProblemKind::UnknownTask => Some("`spore tasks` lists the known tasks"),
        ProblemKind::UnknownExperiment => {
            Some("`spore graph` lists the experiments of a task, `spore search` finds them by words")
        }
        ProblemKind::UnknownNode => Some("`spore show ID` shows the node that published an experiment"),
        ProblemKind::UnknownDataset => Some("add the dataset with `spore data add FILE`, which prints its CID"),
        ProblemKind::TokenRequired => {
            Some("stop the node and start it again, so that it uses the token of this directory")
        }
        ProblemKind::Misdirected => Some(
            "list the name of a reverse proxy in config.toml (`[web]`, `names = [\"NAME\"]`), or start the node with `--web-host ADDRESS`",
        ),
        ProblemKind::DamagedStore => Some(REPAIR),
        _ => None,
    }
}

/// What to do about a failure of the language model, by its kind as the API names it.
pub fn hint_for_llm(fault: &str) -> Option<&'static str> {
    match fault {
        "key" => {
            Some("choose the model again with `spore set PROVIDER KEY`, or correct SPORE_LLM_KEY, and restart the node")
        }
        "not_found" => Some(
            "`spore set PROVIDER KEY --model NAME --base-url URL` names another model or address; an address ends with its \
             version, such as /v1; restart the node then",
        ),
        "limit" => Some(
            "the provider's limit or the money there is used up: raise it, or choose another model with `spore set`",
        ),
        "cap" => Some("the node asks again on the next day (UTC); llm.tokens_by_day and llm.cost_by_day are the caps"),
        "server" => Some("the provider has a problem of its own; the node asks again by itself"),
        "timeout" => Some(
            "choose a faster model with `spore set PROVIDER KEY --model NAME`, or bound answers with `--max-tokens`",
        ),
        "unreachable" => Some("check that the server runs at that address: `spore llm test` asks it once"),
        "context" => Some(
            "raise the server's context length (in Ollama: OLLAMA_CONTEXT_LENGTH=16384, or `PARAMETER num_ctx 16384` in a \
             Modelfile), or name it with `spore set ... --context TOKENS`",
        ),
        "cut" => {
            Some("let answers be longer: `spore set ... --max-tokens TOKENS`, or raise the server's context length")
        }
        "request" => Some(
            "the server speaks another API, or refuses a setting: `spore set` shows them, `spore llm test` asks once",
        ),
        "unusable" => {
            Some("a larger model may do better: `spore set PROVIDER KEY --model NAME`; `spore llm test` asks once")
        }
        _ => None,
    }
}

impl From<ApiError> for CliError {
    fn from(error: ApiError) -> Self {
        let kind = match error.kind.status() {
            404 => ErrorKind::NotFound,
            400 | 409 => ErrorKind::Usage,
            _ => ErrorKind::Failed,
        };
        let hint = hint_for_problem(error.kind).map(str::to_owned).or(error.hint);
        Self { kind, message: error.message, hint: hint.map(Hint) }
    }
}

impl From<WebError> for CliError {
    fn from(error: WebError) -> Self {
        let hint = if error.is_admin {
            "choose another address with `--admin-port PORT` and `--admin-host ADDRESS`"
        } else if error.in_use {
            "another spore may run here already; choose another port with `--web-port PORT`, or `--no-web`"
        } else {
            "choose another address with `--web-host ADDRESS` and `--web-port PORT`"
        };
        Self::failed(error.to_string()).hint(hint)
    }
}

impl From<ListenError> for CliError {
    fn from(error: ListenError) -> Self {
        let hint = if error.in_use {
            "another spore or a sporemesh node may run here already; choose another port with `--port PORT`, or \
             `--no-bridge`"
        } else {
            "choose another address with `--host ADDRESS` and `--port PORT`, or `--no-bridge`"
        };
        Self::failed(error.to_string()).hint(hint)
    }
}

impl From<NetworkError> for CliError {
    fn from(error: NetworkError) -> Self {
        let hint = match error {
            NetworkError::Store(error) => return error.into(),
            NetworkError::AddressInUse { .. } => "choose another port with `--p2p-port PORT`, or stop that program",
            NetworkError::Listen { .. } => "choose other addresses with `--listen MULTIADDR`",
            NetworkError::Setup(_) => return Self::failed(error.to_string()),
        };
        Self::failed(error.to_string()).hint(hint)
    }
}

impl From<GenesisError> for CliError {
    fn from(error: GenesisError) -> Self {
        match error {
            GenesisError::Store(error) => error.into(),
            GenesisError::Damaged(_) | GenesisError::Refused(_) | GenesisError::Closed(_) => {
                Self::failed(error.to_string())
            }
        }
    }
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::File(error) => error.into(),
            StartError::Key(error) => error.into(),
            StartError::Store(error) => error.into(),
            StartError::Web(error) => error.into(),
            StartError::Bridge(error) => error.into(),
            StartError::Network(error) => error.into(),
            StartError::Genesis(error) => error.into(),
            StartError::Task(error) => Self::from(error)
                .hint("`spore tasks` lists the known tasks; give the full id of a task that only other nodes know"),
            StartError::Device(_) => Self::failed(error.to_string())
                .hint("train on the processor with `--device flex`, or run a relay with `--no-train`"),
            StartError::NoTrainer => {
                Self::usage(error.to_string()).hint("run the node as a relay: `spore run --no-train`")
            }
        }
    }
}

impl From<ServiceEnded> for CliError {
    fn from(error: ServiceEnded) -> Self {
        Self::failed(error.to_string()).hint("see the messages above; `spore run -v` shows more of them")
    }
}

impl From<NodeFailure> for CliError {
    fn from(error: NodeFailure) -> Self {
        match error {
            NodeFailure::Service(error) => error.into(),
            NodeFailure::DirectoryLost(_) => Self::failed(error.to_string()).hint(
                "stop a node before its directory is moved; start one where the directory is now: `--data-dir DIR`",
            ),
        }
    }
}

impl From<SporemeshError> for CliError {
    fn from(error: SporemeshError) -> Self {
        match error {
            SporemeshError::Io { what, source } => Self::io(what, &source),
            SporemeshError::NotFound(_) => {
                Self::not_found(error.to_string()).hint("name the directory that holds the `db` folder of the node")
            }
            SporemeshError::Busy(_) => Self::failed(error.to_string()).hint(IMPORT_AGAIN),
            SporemeshError::Database { .. } => Self::failed(error.to_string()),
        }
    }
}

impl From<ImportError> for CliError {
    fn from(error: ImportError) -> Self {
        const WITHOUT_IDENTITY: &str = "import everything else with `--without-identity`";
        match error {
            ImportError::Source(error) => error.into(),
            ImportError::OtherIdentity { .. } => Self::failed(error.to_string())
                .hint(format!("choose another directory for it with `--data-dir DIR`, or {WITHOUT_IDENTITY}")),
            ImportError::SourceKey(_) => {
                Self::failed(error.to_string()).hint(format!("correct that file, or {WITHOUT_IDENTITY}"))
            }
            ImportError::File(error) => error.into(),
            ImportError::Key(error) => error.into(),
            ImportError::Config(error) => error.into(),
            ImportError::Store(error) => error.into(),
            ImportError::Read { what, source } => Self::io(what, &source),
            // The next step for a damaged store is not to import again.
            ImportError::Undecided(IngestFailure::Store(error @ StoreError::Corrupt(_))) => error.into(),
            ImportError::Undecided(_) | ImportError::Failed(_) | ImportError::Closed(_) => {
                Self::failed(error.to_string()).hint(IMPORT_AGAIN)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, path::PathBuf};

    use spore_protocol::Cid;
    use spore_storage::{Damage, PinsFault};

    use super::*;

    fn store_errors() -> Vec<StoreError> {
        let (dir, cid) = (PathBuf::from("DIR"), Cid([0xab; 32]));
        let denied = io::ErrorKind::PermissionDenied;
        vec![
            StoreError::Locked { holder: "process 7".into() },
            StoreError::NotFound(dir.clone()),
            StoreError::DiskFull,
            StoreError::Corrupt(Damage::UnfinishedRepair),
            StoreError::NewerSchema { found: 9, supported: 2 },
            StoreError::OlderSchema { found: 1, supported: 2 },
            StoreError::HashMismatch { expected: cid, actual: cid },
            StoreError::DamagedArtifact { cid, offset: 5 },
            StoreError::TooLarge { cid, limit: 5 },
            StoreError::ReadOnly,
            StoreError::TooManyPins { limit: 5 },
            StoreError::BadPins { path: dir.join("pins"), fault: PinsFault::BadLine },
            StoreError::Cancelled,
            StoreError::NotEmpty(dir.clone()),
            StoreError::NoBackup(dir.clone()),
            StoreError::CompactionFailed { column: "objects" },
            StoreError::Rocks("IO error: lock".into()),
            StoreError::Io { action: "write", path: dir, kind: denied, reason: "denied".into() },
            StoreError::Source { kind: denied, reason: "denied".into() },
        ]
    }

    fn other_errors() -> Vec<CliError> {
        let file = || PathBuf::from("FILE");
        let io = |kind| FileError::Io { path: file(), source: io::Error::from(kind) };
        let network = |address: &str| address.parse().unwrap();
        vec![
            io(io::ErrorKind::NotFound).into(),
            io(io::ErrorKind::PermissionDenied).into(),
            io(io::ErrorKind::StorageFull).into(),
            FileError::Corrupt { path: file(), reason: "EOF while parsing a list".into() }.into(),
            KeyError::Malformed(file()).into(),
            KeyError::Missing(file()).into(),
            ConfigError::Corrupt { path: "config.toml".into(), line: 3, message: "invalid key".into() }.into(),
            ConfigError::Value("resource is 0, but must be a percentage from 1 to 100".into()).into(),
            NetworkError::AddressInUse { address: network("/ip4/0.0.0.0/tcp/7471") }.into(),
            NetworkError::Listen { address: network("/ip4/192.0.2.1/tcp/7471"), reason: "no such address".into() }
                .into(),
            NetworkError::Setup("no provider".into()).into(),
            WebError::new(([127, 0, 0, 1], 8470).into(), &io::Error::from(io::ErrorKind::AddrInUse)).into(),
            WebError::new(([192, 0, 2, 1], 8470).into(), &io::Error::from(io::ErrorKind::AddrNotAvailable)).into(),
            StartError::Device("there is no graphics card".into()).into(),
            StartError::NoTrainer.into(),
            ServiceEnded::named("ingest service").into(),
            NodeFailure::DirectoryLost(PathBuf::from("DIR")).into(),
            SporemeshError::NotFound(file()).into(),
            SporemeshError::Busy(file()).into(),
            SporemeshError::Database { path: file(), what: "no such table".into() }.into(),
            ImportError::SourceKey(KeyError::Malformed(file())).into(),
            ImportError::Undecided(IngestFailure::Store(StoreError::Corrupt(Damage::NoSchema))).into(),
            ImportError::Undecided(IngestFailure::Store(StoreError::DiskFull)).into(),
            ImportError::Failed("a thread ended early".into()).into(),
        ]
    }

    fn problems() -> Vec<CliError> {
        use ProblemKind::{
            Ambiguous, Conflict, DamagedStore, DiskFull, Internal, InvalidRequest, Misdirected, TokenRequired,
            TooLarge, Unavailable, UnknownArtifact, UnknownDataset, UnknownExperiment, UnknownNode, UnknownPeer,
            UnknownTask,
        };
        let kinds = [
            InvalidRequest,
            TokenRequired,
            UnknownTask,
            UnknownExperiment,
            UnknownNode,
            UnknownArtifact,
            UnknownDataset,
            UnknownPeer,
            Ambiguous,
            Conflict,
            TooLarge,
            Misdirected,
            Internal,
            DamagedStore,
            Unavailable,
            DiskFull,
        ];
        kinds.map(|kind| ApiError::new(kind, format!("{kind:?}")).into()).into()
    }

    #[test]
    fn hints_are_as_reviewed() {
        let errors = store_errors().into_iter().map(CliError::from).chain(other_errors()).chain(problems());
        let shown = errors.map(|error| {
            let hint = error.hint.map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
            format!("error: {}\n{hint}[exit code {}]\n", error.message, error.kind as u8)
        });
        insta::assert_snapshot!("hints", shown.collect::<Vec<_>>().join("\n"));
    }
}
