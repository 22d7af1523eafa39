//! The bar that shows how far long work is: on a terminal only, and gone when the work is done.

use std::ops::ControlFlow;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use spore_api::upkeep::shapes::UpkeepProgress;
use spore_storage::StageProgress;

/// Where the end is known, and where it is not.
const MEASURED: &str = "{spinner} {msg} {bar:30} {pos}/{len}";
const UNMEASURED: &str = "{spinner} {msg} {pos}";
/// Redraws in a second: the store tells of itself far more often.
const REDRAWS: u8 = 10;

/// A bar on standard error; nothing where that is no terminal.
pub struct Bar {
    bar: ProgressBar,
    shown: UpkeepProgress,
}

impl Bar {
    pub fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(REDRAWS));
        Self { bar, shown: UpkeepProgress::default() }
    }

    /// Shows how far the store's own work is. Never ends it: Ctrl-C ends this program.
    pub fn watch(&mut self, progress: StageProgress) -> ControlFlow<()> {
        self.show(&progress.into());
        ControlFlow::Continue(())
    }

    pub fn show(&mut self, now: &UpkeepProgress) {
        if self.shown.stage != now.stage || (self.shown.total == 0) != (now.total == 0) {
            let template = if now.total == 0 { UNMEASURED } else { MEASURED };
            // A constant template: an error would only leave the last style.
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.bar.set_style(style);
            }
            self.bar.set_message(now.stage.clone());
        }
        // What was an estimate may be passed.
        self.bar.set_length(now.total.max(now.done));
        self.bar.set_position(now.done);
        self.shown = now.clone();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use spore_storage::Stage;

    use super::*;

    #[test]
    fn a_bar_follows_the_work_past_its_estimate_and_never_ends_it() {
        let mut bar = Bar::new();
        assert!(bar.watch(StageProgress { stage: Stage::Replay, done: 5, total: 10 }).is_continue());
        assert_eq!((bar.bar.position(), bar.bar.length()), (5, Some(10)));
        assert!(bar.watch(StageProgress { stage: Stage::Replay, done: 12, total: 10 }).is_continue());
        assert_eq!((bar.bar.position(), bar.bar.length()), (12, Some(12)));
        assert!(bar.watch(StageProgress { stage: Stage::Artifacts, done: 1, total: 0 }).is_continue());
        assert_eq!(bar.shown.stage, Stage::Artifacts.to_string());
    }
}
