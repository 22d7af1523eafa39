//! Tells a service manager how the node is: the protocol of systemd's `sd_notify`, datagrams of a few words to a socket.
//!
//! The words are `READY=1` once the node answers, `STATUS=` with what it does, `WATCHDOG=1` for as long as its runtime and
//! its network answer, and `STOPPING=1`. Without `NOTIFY_SOCKET` nothing is sent. A manager that does not read costs
//! nothing: a datagram that finds no room is dropped.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

use spore_api::live::{Live, LiveNode};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::super::text;

/// Time between two looks at the node, unless the watchdog wants to hear sooner.
const LOOK: Duration = Duration::from_secs(5);
/// Shortest time between two looks. A shorter watchdog than twice this is not served in time, and says so.
const LEAST: Duration = Duration::from_millis(100);
/// Characters of a status: a line of `systemctl status`.
const STATUS: usize = 120;

/// The way to the service manager, if one listens.
pub struct Notifier {
    socket: Option<UnixDatagram>,
    /// The manager ends a node that it has not heard of for so long.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment of this process says.
    pub fn of_environment() -> Self {
        Self::new(|name| std::env::var_os(name))
    }

    fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let given = variable("NOTIFY_SOCKET").filter(|address| !address.is_empty());
        let socket = given.and_then(|address| {
            let opened = connect(&address);
            opened.inspect_err(|error| tracing::warn!(%error, "the service manager's socket cannot be used")).ok()
        });
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        // A watchdog for another process is not this one's business.
        let own = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|period| own && *period > 0).map(Duration::from_micros);
        Self { socket, watchdog }
    }

    /// The node answers.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The node ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    fn send(&self, words: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(words.as_bytes());
        }
    }

    /// Tells the state of the node, until the task is aborted. A node whose runtime or network stands still tells nothing,
    /// and a watchdog notices.
    pub async fn follow(&self, live: LiveNode) {
        if self.socket.is_none() {
            return;
        }
        // Half of the period, as the protocol asks for.
        let every = self.watchdog.map_or(LOOK, |period| (period / 2).clamp(LEAST, LOOK));
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = String::new();
        loop {
            ticks.tick().await;
            let Ok(now) = timeout(self.watchdog.unwrap_or(LOOK), live.now()).await else { continue };
            let status = status(&now);
            let beat = if self.watchdog.is_some() { "WATCHDOG=1\n" } else { "" };
            if status == told {
                self.send(beat);
            } else {
                self.send(&format!("{beat}STATUS={status}"));
                told = status;
            }
        }
    }
}

/// The state of a node in a line, such as `12 peers, training 43 %`.
fn status(live: &Live) -> String {
    let peers = text::count(live.peers.len() as u64, "peer", "peers");
    let share = live.research.as_ref().and_then(|research| Some((research.step?, research.steps.filter(|n| *n > 0)?)));
    let doing = match (share, live.problem) {
        (Some((step, steps)), None) => format!("training {} %", step.saturating_mul(100) / steps),
        _ => text::line(&live.activity),
    };
    format!("{peers}, {doing}").chars().take(STATUS).collect()
}

fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&parsed(address)?)?;
    Ok(socket)
}

/// A path, or `@` and a name without a file.
fn parsed(address: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = address.as_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt as _;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manager_hears_at_a_path_and_at_a_name_and_silence_costs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let environment = |name: &str| match name {
            "NOTIFY_SOCKET" => Some(path.clone().into_os_string()),
            "WATCHDOG_USEC" => Some("3000000".into()),
            _ => None,
        };
        let notifier = Notifier::new(environment);
        assert_eq!(notifier.watchdog, Some(Duration::from_secs(3)));
        notifier.ready();
        let mut buffer = [0; 64];
        let size = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..size], b"READY=1");
        let nobody = Notifier::new(|_| None);
        nobody.ready();
        assert!(nobody.socket.is_none() && nobody.watchdog.is_none());
        let other = |name: &str| Some(if name == "WATCHDOG_PID" { "1" } else { "9" }.into());
        assert_eq!(Notifier::new(other).watchdog, None, "another process is watched");
        // A manager that never reads does not hold the node.
        for _ in 0..10_000 {
            notifier.ready();
        }
    }

    #[test]
    fn status_is_one_short_line() {
        assert_eq!(status(&Live::offline(None)), "0 peers, no node is running");
        let long = Live { activity: "x\n".repeat(400), ..Live::default() };
        let said = status(&long);
        assert!(said.chars().count() == STATUS && !said.contains('\n'), "{said}");
    }
}
