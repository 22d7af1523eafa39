//! `spore block` and `spore unblock`: the signers and tasks whose objects this node does not take from others.

use std::io::{Read as _, Write};

use clap::{Args as ClapArgs, Subcommand};
use spore_ingest::blocks::BlockList;
use spore_protocol::{NodeId, TaskId};

use super::{CliError, Context, access::NodeAccess};
use crate::{
    block_list::{self, BlockFile, MAX_BYTES},
    config, identity_file,
};

/// Refuse the objects of a signer or of a task, or list what is refused
///
/// A blocked object is neither stored, shown as new nor passed on when another node sends it, and no peer is punished
/// for sending it. A running node follows the list within seconds. What is stored already stays until `spore db drop`
/// removes it.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    what: Option<What>,
    /// Print the list as JSON
    #[arg(long, conflicts_with = "id")]
    json: bool,
}

/// A signer or a task.
#[derive(Debug, ClapArgs)]
pub struct What {
    /// The signer's key, or the task's id: 64 hex digits. Of a task that is known here, its name or the beginning of its
    /// id will do
    #[arg(value_name = "KEY|TASK", required = false)]
    id: String,
    /// The id is a task's, also when no such task is known here
    #[arg(long)]
    task: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the list as a file that is signed with this node's key
    Export {
        /// The file to write [default: standard output]
        file: Option<std::path::PathBuf>,
    },
    /// Add a list that another operator signed to this one
    Import {
        /// The file to read; `-` is standard input
        file: std::path::PathBuf,
        /// Take the list only when this key signed it
        #[arg(long, value_name = "KEY")]
        by: Option<String>,
    },
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    match (args.command, args.what) {
        (Some(Command::Export { file }), _) => export(file.as_deref(), context),
        (Some(Command::Import { file, by }), _) => import(&file, by.as_deref(), context),
        (None, Some(what)) => change(&what, true, context).await,
        (None, None) => show(args.json, context),
    }
}

/// `spore unblock`.
pub async fn unblock(what: &What, context: &mut Context) -> Result<(), CliError> {
    change(what, false, context).await
}

fn file(context: &Context) -> BlockFile {
    BlockFile::new(context.data.blocked())
}

async fn change(what: &What, block: bool, context: &mut Context) -> Result<(), CliError> {
    let mut list = file(context).load()?;
    let id = resolve(what, &list, context).await?;
    if block && list.is_full() {
        return Err(CliError::failed("the block list is full"));
    }
    let changed = match (&id, block) {
        (Id::Signer(signer), true) => list.signers.insert(*signer),
        (Id::Signer(signer), false) => list.signers.remove(signer),
        (Id::Task(task), true) => list.tasks.insert(*task),
        (Id::Task(task), false) => list.tasks.remove(task),
    };
    if changed {
        save(&list, context)?;
    }
    let state = if block { "blocked" } else { "not blocked" };
    let already = if changed { "" } else { " already" };
    match id {
        Id::Signer(signer) => writeln!(context.out, "The signer {signer} is {state}{already}.")?,
        Id::Task(task) => writeln!(context.out, "The task {task} is {state}{already}.")?,
    }
    Ok(())
}

enum Id {
    Signer(NodeId),
    Task(TaskId),
}

/// What is on the list counts as what it is there. A task that is known here is a task. Any other id is a key.
async fn resolve(what: &What, list: &BlockList, context: &Context) -> Result<Id, CliError> {
    let (key, task) = (config::node_id(&what.id), what.id.to_ascii_lowercase().parse::<TaskId>().ok());
    match (key, task) {
        (_, Some(task)) if what.task || list.tasks.contains(&task) => return Ok(Id::Task(task)),
        (Some(key), _) if list.signers.contains(&key) => return Ok(Id::Signer(key)),
        _ => {}
    }
    if let Ok(source) = NodeAccess::open(context).await
        && let Ok(found) = source.task(Some(&what.id)).await
        && let Ok(task) = found.task_id.parse()
    {
        return Ok(Id::Task(task));
    }
    match key {
        Some(key) if !what.task => Ok(Id::Signer(key)),
        _ => Err(CliError::usage(format!(
            "{:.80?} is neither a key of 64 hex digits nor a task that is known here",
            what.id
        ))
        .hint("`spore tasks` lists the known tasks; `spore show ID` shows the key that signed an experiment")),
    }
}

fn save(list: &BlockList, context: &Context) -> Result<(), CliError> {
    context.data.create()?;
    Ok(file(context).save(list)?)
}

fn show(json: bool, context: &mut Context) -> Result<(), CliError> {
    let list = file(context).load()?;
    if json {
        let signers: Vec<_> = list.signers.iter().map(ToString::to_string).collect();
        let tasks: Vec<_> = list.tasks.iter().map(ToString::to_string).collect();
        return context.json(&serde_json::json!({ "signers": signers, "tasks": tasks }));
    }
    if list == BlockList::default() {
        writeln!(context.out, "Nothing is blocked. `spore block KEY` blocks a signer, `spore block TASK` a task.")?;
    }
    for signer in &list.signers {
        writeln!(context.out, "signer  {signer}")?;
    }
    for task in &list.tasks {
        writeln!(context.out, "task    {task}")?;
    }
    Ok(())
}

fn export(path: Option<&std::path::Path>, context: &mut Context) -> Result<(), CliError> {
    let list = file(context).load()?;
    let identity = identity_file::load(&context.data.identity())?
        .ok_or_else(|| CliError::not_found("there is no key here to sign with").hint("`spore init` makes one"))?;
    let text = block_list::export(&list, &identity).map_err(|e| CliError::failed(e.to_string()))?;
    match path.filter(|path| path.as_os_str() != "-") {
        Some(path) => std::fs::write(path, text + "\n").map_err(|e| CliError::io(path.display(), &e)),
        None => Ok(writeln!(context.out, "{text}")?),
    }
}

fn import(path: &std::path::Path, by: Option<&str>, context: &mut Context) -> Result<(), CliError> {
    let failed = |e: std::io::Error| CliError::io(path.display(), &e);
    let mut text = String::new();
    let limit = MAX_BYTES as u64;
    if path.as_os_str() == "-" {
        std::io::stdin().take(limit).read_to_string(&mut text).map_err(failed)?;
    } else {
        std::fs::File::open(path).map_err(failed)?.take(limit).read_to_string(&mut text).map_err(failed)?;
    }
    let (shared, signer) = block_list::import(&text).map_err(|e| CliError::failed(e.to_string()))?;
    if let Some(by) = by
        && config::node_id(by) != Some(signer)
    {
        return Err(CliError::failed(format!("the deny list is signed by {signer}, not by {by:.80}")));
    }
    let mut list = file(context).load()?;
    let before = list.signers.len() + list.tasks.len();
    list.signers.extend(shared.signers);
    list.tasks.extend(shared.tasks);
    if list.signers.len() > block_list::LIMIT || list.tasks.len() > block_list::LIMIT {
        return Err(CliError::failed("the two lists together are too long"));
    }
    save(&list, context)?;
    let added = list.signers.len() + list.tasks.len() - before;
    Ok(writeln!(context.out, "{added} more signers and tasks are blocked, by a list that {signer} signed.")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::DataDir;

    fn context(folder: &std::path::Path) -> Context {
        Context { data: DataDir::new(folder), out: Box::new(std::io::sink()) }
    }

    fn what(id: &str, task: bool) -> What {
        What { id: id.to_owned(), task }
    }

    #[tokio::test]
    async fn blocked_signer_and_task_are_listed_until_they_are_unblocked() {
        let folder = tempfile::tempdir().unwrap();
        let mut context = context(folder.path());
        let signer = spore_protocol::Identity::from_seed(&[1; 32]).node_id();
        let task = TaskId([7; 32]);
        for _ in 0..2 {
            change(&what(&signer.to_string().to_ascii_uppercase(), false), true, &mut context).await.unwrap();
            change(&what(&task.to_string(), true), true, &mut context).await.unwrap();
        }
        let list = file(&context).load().unwrap();
        assert_eq!(list, BlockList { signers: [signer].into(), tasks: [task].into() });
        assert!(change(&what("nonsense", false), true, &mut context).await.is_err());
        for id in [signer.to_string(), task.to_string()] {
            change(&what(&id, false), false, &mut context).await.unwrap();
        }
        assert_eq!(file(&context).load().unwrap(), BlockList::default());
    }

    #[test]
    fn exported_list_is_imported_elsewhere_and_only_by_the_expected_key() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut here, mut there) = (context(here.path()), context(there.path()));
        let key = identity_file::load_or_create(&here.data.identity()).unwrap().identity;
        let blocked = spore_protocol::Identity::from_seed(&[1; 32]).node_id();
        let list = BlockList { signers: [blocked].into(), ..BlockList::default() };
        save(&list, &here).unwrap();
        let path = here.data.root().join("shared.json");
        export(Some(&path), &mut here).unwrap();
        assert!(import(&path, Some(&blocked.to_string()), &mut there).is_err());
        assert_eq!(file(&there).load().unwrap(), BlockList::default());
        import(&path, Some(&key.node_id().to_string()), &mut there).unwrap();
        assert_eq!(file(&there).load().unwrap(), list);
    }
}
