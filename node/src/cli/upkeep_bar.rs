//! The progress bar of a long job on the store. It appears on a terminal only, and goes when the job is done.

use std::ops::ControlFlow;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use spore_api::upkeep::shapes::UpkeepProgress;
use spore_storage::StageProgress;

/// Templates of the bar with and without a known total.
const MEASURED: &str = "{spinner} {msg} {bar:30} {pos}/{len}";
const UNMEASURED: &str = "{spinner} {msg} {pos}";
/// Redraws a second. The store reports its progress far more often.
const REDRAWS: u8 = 10;

/// A bar on standard error. Hidden when that is not a terminal.
pub struct UpkeepBar {
    bar: ProgressBar,
    shown: UpkeepProgress,
}

impl UpkeepBar {
    pub fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(REDRAWS));
        Self { bar, shown: UpkeepProgress::default() }
    }

    /// Shows the store's progress. Never cancels the job: Ctrl-C stops this program.
    pub fn watch(&mut self, progress: StageProgress) -> ControlFlow<()> {
        self.show(&progress.into());
        ControlFlow::Continue(())
    }

    pub fn show(&mut self, now: &UpkeepProgress) {
        if self.shown.stage != now.stage || (self.shown.total == 0) != (now.total == 0) {
            let template = if now.total == 0 { UNMEASURED } else { MEASURED };
            // The template is a constant. After an error the bar would keep its last style.
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.bar.set_style(style);
            }
            self.bar.set_message(now.stage.clone());
        }
        // The total may be an estimate that is too low.
        self.bar.set_length(now.total.max(now.done));
        self.bar.set_position(now.done);
        self.shown = now.clone();
    }
}

impl Drop for UpkeepBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use spore_storage::Stage;

    use super::*;

    #[test]
    fn bar_follows_the_job_past_its_estimate_and_never_cancels_it() {
        let mut bar = UpkeepBar::new();
        assert!(bar.watch(StageProgress { stage: Stage::Replay, done: 5, total: 10 }).is_continue());
        assert_eq!((bar.bar.position(), bar.bar.length()), (5, Some(10)));
        assert!(bar.watch(StageProgress { stage: Stage::Replay, done: 12, total: 10 }).is_continue());
        assert_eq!((bar.bar.position(), bar.bar.length()), (12, Some(12)));
        assert!(bar.watch(StageProgress { stage: Stage::Artifacts, done: 1, total: 0 }).is_continue());
        assert_eq!(bar.shown.stage, Stage::Artifacts.to_string());
    }
}
