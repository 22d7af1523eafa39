//! The loop that research and verification share: one round after the other until the node shuts down.
//!
//! A round says what it did, and thereby when the next one begins: at once, after news, or after a backoff. Never here:
//! what a round does.

use std::{borrow::Cow, time::Duration};

use spore_base::{
    backoff::Backoff,
    random,
    research_state::ResearchState,
    shutdown::{Shutdown, stopped},
};
use spore_ingest::StoreEvent;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, sleep, sleep_until},
};
use tracing::{info, warn};

use crate::engine::EngineError;

/// Least time between the beginnings of two rounds of which the first did nothing, so that a flood of records does
/// not keep the loop busy.
const ROUND_PAUSE: Duration = Duration::from_secs(1);

/// What a round did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Round {
    /// The round did its work. The next round begins at once.
    Done,
    /// The round published a crash. The next round begins after the backoff, because the next script may crash too.
    Crashed,
    /// There was nothing to do, for this reason. The next round begins after news.
    Idle(Cow<'static, str>),
    /// A task or a record is on cooldown now. The next round may find another one.
    PassedOver,
}

/// A service that works in rounds.
pub trait Rounds {
    /// The name of the service, for the log: `research` or `verification`.
    const NAME: &'static str;

    /// Does one thing.
    ///
    /// # Errors
    /// An error of this machine, or [`EngineError::Stopped`] at shutdown.
    fn round(&mut self, shutdown: &mut Shutdown) -> impl Future<Output = Result<Round, EngineError>> + Send;

    /// Waits until a round may find something to do.
    fn wait_for_news(&mut self, shutdown: &mut Shutdown) -> impl Future<Output = ()> + Send;

    /// Shows what the service does. Nobody looks at a service that does not override this.
    fn show(&self, _state: ResearchState) {}
}

/// Runs rounds until the node shuts down. Failures in a row are spaced out by `backoff`.
pub async fn run<S: Rounds>(mut service: S, mut backoff: Backoff, mut shutdown: Shutdown) {
    let mut said = Cow::Borrowed("");
    loop {
        let began = Instant::now();
        service.show(ResearchState::Choosing);
        let result = service.round(&mut shutdown).await;
        if let Ok(Round::Idle(reason)) = &result {
            if *reason != said {
                info!("{} waits: {reason}", S::NAME);
                said.clone_from(reason);
            }
            service.show(ResearchState::Waiting { reason: reason.clone().into_owned() });
            service.wait_for_news(&mut shutdown).await;
        }
        let Some(pause) = pause(&result, began.elapsed(), &mut backoff, random::number()) else { return };
        if let Some(reason) = setback(&result) {
            service.show(ResearchState::BackingOff { until: (Instant::now() + pause).into_std(), reason });
        }
        if let Err(error) = result {
            warn!(%error, retry_in = ?pause, "{} failed", S::NAME);
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = stopped(&mut shutdown) => return,
        }
    }
}

/// Why the next round waits for the backoff. None when it does not.
fn setback(result: &Result<Round, EngineError>) -> Option<String> {
    match result {
        Ok(Round::Crashed) => Some("the last experiment crashed".to_owned()),
        Err(error) => Some(error.to_string()),
        Ok(_) => None,
    }
}

/// The time between the end of a round, which took `elapsed` with its wait for news, and the next one. None at
/// shutdown.
fn pause(
    result: &Result<Round, EngineError>,
    elapsed: Duration,
    backoff: &mut Backoff,
    random: u64,
) -> Option<Duration> {
    match result {
        Ok(Round::Done) => {
            backoff.reset();
            Some(Duration::ZERO)
        }
        Ok(Round::PassedOver | Round::Idle(_)) => Some(ROUND_PAUSE.saturating_sub(elapsed)),
        Err(EngineError::Stopped) => None,
        Ok(Round::Crashed) | Err(_) => Some(backoff.next(random)),
    }
}

/// Waits for a store event that `is_news`, at most until `deadline`. A receiver that lagged has missed events, which
/// counts as news.
pub async fn event_or_deadline(
    events: &mut broadcast::Receiver<StoreEvent>,
    deadline: Instant,
    mut is_news: impl FnMut(&StoreEvent) -> bool,
) {
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) if !is_news(&event) => {}
                Ok(_) | Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => sleep_until(deadline).await,
            },
            () = sleep_until(deadline) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(100);

    fn failed() -> Result<Round, EngineError> {
        Err(EngineError::Publish("full".into()))
    }

    #[test]
    fn done_round_is_followed_at_once_and_an_idle_one_no_sooner_than_the_pause() {
        let mut backoff = Backoff::new(FIRST, FIRST * 4);
        let mut pause = |result, elapsed| pause(&result, Duration::from_millis(elapsed), &mut backoff, 0);
        assert_eq!(pause(Ok(Round::Done), 0), Some(Duration::ZERO));
        assert_eq!(pause(Ok(Round::Idle("nothing".into())), 400), Some(Duration::from_millis(600)));
        assert_eq!(pause(Ok(Round::Idle("nothing".into())), 5000), Some(Duration::ZERO));
        assert_eq!(pause(Ok(Round::PassedOver), 0), Some(ROUND_PAUSE));
        assert_eq!(pause(Err(EngineError::Stopped), 0), None);
    }

    #[test]
    fn backoff_is_shown_with_its_reason_after_a_failure_and_after_a_crash_only() {
        assert!(setback(&failed()).unwrap().contains("full"));
        assert!(setback(&Ok(Round::Crashed)).unwrap().contains("crashed"));
        for result in [Round::Done, Round::PassedOver, Round::Idle("nothing".into())] {
            assert_eq!(setback(&Ok(result)), None);
        }
    }

    #[test]
    fn failures_in_a_row_wait_longer_until_a_round_is_done() {
        let mut backoff = Backoff::new(FIRST, FIRST * 4);
        // A wait is between half of the full one and all of it.
        let mut check = |result, full: Duration| {
            let wait = pause(&result, Duration::ZERO, &mut backoff, 7).unwrap();
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
        };
        check(failed(), FIRST);
        check(Ok(Round::Crashed), FIRST * 2);
        check(failed(), FIRST * 4);
        check(failed(), FIRST * 4);
        check(Ok(Round::Done), Duration::ZERO);
        check(failed(), FIRST);
    }
}
