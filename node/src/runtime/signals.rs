//! The signals that ask the process to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Resolves when Ctrl-C, SIGTERM or SIGHUP (a closed terminal) asks this process to stop, from the call on and not only
/// from the first poll. A process that was started to survive its terminal (`nohup`) ignores SIGHUP.
pub fn asked_to_stop() -> impl Future<Output = ()> + Send {
    // A handler would end the ignoring.
    let hangup = if hangup_is_ignored() { None } else { signal(SignalKind::hangup()).ok() };
    let asked = asked_again();
    async move {
        tokio::select! {
            () = asked => {}
            () = received(hangup) => {}
        }
    }
}

/// As [`asked_to_stop`], without SIGHUP: a closed terminal sends it more than once, and the second time is no haste.
pub fn asked_again() -> impl Future<Output = ()> + Send {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async move {
        match signals {
            (Ok(interrupt), Ok(terminate)) => {
                tokio::select! {
                    () = received(Some(interrupt)) => {}
                    () = received(Some(terminate)) => {}
                }
            }
            _ => {
                tracing::error!("cannot receive signals; stop this process with SIGKILL");
                std::future::pending::<()>().await;
            }
        }
    }
}

async fn received(signal: Option<Signal>) {
    if let Some(mut signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Whether this process ignores SIGHUP. Where the system does not say so, SIGHUP is left as it is.
fn hangup_is_ignored() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return true };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The first bit stands for signal 1.
    mask.is_none_or(|mask| mask & 1 != 0)
}
