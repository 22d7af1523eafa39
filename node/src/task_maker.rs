//! Makes tasks for the API and the command line. The trainer checks the base script, so a relay cannot make one.

use futures::future::{BoxFuture, FutureExt};
use spore_api::{dto, ports::TaskMaker, problem::ApiError};
use spore_ingest::IngestHandle;
use spore_protocol::{Identity, TaskId};
use spore_storage::Store;

/// Signs new tasks with this node's key and hands them to the ingest service.
#[derive(Clone)]
pub struct NodeTaskMaker {
    pub store: Store,
    pub ingest: IngestHandle,
    pub identity: Identity,
}

impl TaskMaker for NodeTaskMaker {
    fn create(&self, draft: dto::NewTask) -> BoxFuture<'_, Result<TaskId, ApiError>> {
        create(self, draft).boxed()
    }
}

#[cfg(feature = "trainer")]
async fn create(maker: &NodeTaskMaker, new: dto::NewTask) -> Result<TaskId, ApiError> {
    use spore_api::problem::ProblemKind;
    use spore_base::clock::unix_now;
    use spore_lab::research::create::{CreateError, TaskDraft, create_task};

    let bad = |e: String| ApiError::bad_request(e);
    let dataset = new.dataset.map(|cid| cid.parse().map_err(|_| bad(format!("{cid:.80} is not a CID")))).transpose()?;
    let evaluator =
        new.evaluator.map(|cid| cid.parse().map_err(|_| bad(format!("{cid:.80} is not a CID")))).transpose()?;
    let draft = TaskDraft {
        name: new.name,
        description: new.description,
        task_type: new.task_type,
        artifact_type: new.artifact_type.into(),
        metric: new.metric,
        goal: new.goal.parse().map_err(bad)?,
        base: new.base,
        evaluator,
        dataset,
        time_budget: new.time_budget,
    };
    let created = create_task(&maker.store, &maker.ingest, &maker.identity, draft, unix_now()).await;
    created.map(|manifest| manifest.id().into()).map_err(|error| match error {
        CreateError::Store(error) => error.into(),
        CreateError::Publish(reason) => ApiError::unavailable(reason),
        CreateError::Dataset(_) => ApiError::new(ProblemKind::UnknownDataset, error.to_string()),
        CreateError::Evaluator(_) => ApiError::new(ProblemKind::UnknownArtifact, error.to_string()),
        CreateError::DatasetSize { .. } => ApiError::bad_request(error.to_string())
            .hint("use another dataset; a shorter training time needs a smaller one"),
        other => ApiError::bad_request(other.to_string()),
    })
}

#[cfg(not(feature = "trainer"))]
async fn create(_maker: &NodeTaskMaker, _new: dto::NewTask) -> Result<TaskId, ApiError> {
    Err(ApiError::unavailable("this program was built without the trainer, which checks base scripts")
        .hint("create the task with a program that has the trainer"))
}
