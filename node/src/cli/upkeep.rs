//! Where jobs on the store are done: by the node that runs, or here.

use spore_api::upkeep::{
    self,
    shapes::{UpkeepJob, UpkeepReport},
};
use spore_storage::Store;

use super::{
    CliError, Context,
    bar::Bar,
    source::{Client, locked_without_api},
};

/// Does a job on the data directory's store, showing how far it is.
///
/// # Errors
/// When there is no store, or a process that is no answering node holds it; what the job meets.
pub async fn perform(job: &UpkeepJob, context: &Context) -> Result<UpkeepReport, CliError> {
    let mut bar = Bar::new();
    if let Some(client) = Client::find(&context.data).await? {
        return client.upkeep(job, |progress| bar.show(progress)).await;
    }
    let store = open(job.writes(), context)?;
    Ok(upkeep::perform(&store, job, &mut |progress| bar.watch(progress))?)
}

/// Opens the store, and makes none.
///
/// # Errors
/// When there is none, or another process holds it.
pub fn open(to_write: bool, context: &Context) -> Result<Store, CliError> {
    let root = context.data.root();
    let opened = if to_write && Store::exists(root) { Store::open(root) } else { Store::open_read_only(root) };
    opened.map_err(|e| locked_without_api(e, &context.data))
}

/// The answer to another job than the one that was asked for.
pub fn another_answer() -> CliError {
    CliError::failed("the node answered with the report of another job")
        .hint("is it of the same version as this program?")
}
