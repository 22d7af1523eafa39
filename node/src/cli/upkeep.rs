//! Jobs on the store, done by the running node or by this command.

use spore_api::upkeep::{
    self,
    shapes::{UpkeepJob, UpkeepReport},
};
use spore_storage::Store;

use super::{
    CliError, Context,
    access::{ApiClient, SAME_VERSION, locked_without_api},
    upkeep_bar::UpkeepBar,
};

/// Does a job on the store of the data directory and shows its progress.
///
/// # Errors
/// When there is no store, when another process holds it and does not answer, or when the job fails.
pub async fn perform(job: &UpkeepJob, context: &Context) -> Result<UpkeepReport, CliError> {
    let mut bar = UpkeepBar::new();
    if let Some(client) = ApiClient::find(&context.data).await? {
        return client.upkeep(job, |progress| bar.show(progress)).await;
    }
    let store = open(job.writes(), context)?;
    Ok(upkeep::perform(&store, job, &mut |progress| bar.watch(progress))?)
}

/// Opens the store. Creates nothing.
///
/// # Errors
/// When there is no store, or another process holds it.
pub fn open(to_write: bool, context: &Context) -> Result<Store, CliError> {
    let root = context.data.root();
    let opened = if to_write && Store::exists(root) {
        Store::open_with_trust(root, context.seeds()?)
    } else {
        Store::open_read_only(root)
    };
    opened.map_err(|e| locked_without_api(e, &context.data))
}

/// The error for the report of a job that was not asked for.
pub fn another_answer() -> CliError {
    CliError::failed("the node answered with the report of another job").hint(SAME_VERSION)
}
