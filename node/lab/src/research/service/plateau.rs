//! What research does when nothing gets better: it widens, then works on another task, then rests.
//!
//! Widening is in the choice of the parent ([`crate::research::choice::explore_share`]). Never here: choosing a parent.

use std::time::{Duration, Instant};

use spore_protocol::TaskId;
use tracing::info;

use super::Researcher;
use crate::{
    engine::EngineError,
    research::choice::{Plateau, plateau},
    work_loop::Round,
};

/// How long another task is worked on, and how long research rests between two experiments. Others may find something in an
/// hour, and a new best ends both.
const PAUSE: Duration = Duration::from_secs(3600);

impl Researcher {
    /// Another round than an experiment on a task that brought nothing new for long: None to go on.
    pub(super) async fn at_plateau(&mut self, task: TaskId, stalled: usize) -> Result<Option<Round>, EngineError> {
        let now = Instant::now();
        match plateau(stalled) {
            Plateau::Progress => Ok(None),
            Plateau::Switch | Plateau::Rest if self.has_other_task(task).await? => {
                info!(task = %task.short(), experiments = stalled, "nothing got better: research turns to another task");
                self.unfit.put(task, now + PAUSE);
                Ok(Some(Round::PassedOver))
            }
            Plateau::Switch => Ok(None),
            Plateau::Rest if self.resting.is_cooling(&task, now) => {
                let minutes = PAUSE.as_secs() / 60;
                let reason = format!(
                    "research rests: {stalled} experiments made nothing better; it tries one every {minutes} minutes"
                );
                Ok(Some(Round::Idle(reason.into())))
            }
            Plateau::Rest => {
                self.resting.put(task, now + PAUSE);
                Ok(None)
            }
        }
    }

    /// Whether there is another task to work on.
    async fn has_other_task(&self, task: TaskId) -> Result<bool, EngineError> {
        let mut unfit = self.unfit.cooling(Instant::now());
        unfit.extend(self.hopeless.keys());
        unfit.insert(task);
        Ok(self.engine.chosen_task(unfit).await?.is_some_and(|other| other != task))
    }
}
