//! The terminal of a running node: a banner, a line for each event, and the progress of the running experiment, as a bar
//! on a terminal and as a line from time to time otherwise.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use anstream::{AutoStream, ColorChoice};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use spore_api::{
    live::{Live, LiveNode},
    view::StoreView,
};
use spore_base::{
    mode::Mode,
    progress::{Purpose, RunProgress},
};
use spore_storage::Change;
use tokio::{
    sync::broadcast::error::RecvError,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{Level, Metadata};
use tracing_subscriber::{EnvFilter, filter::filter_fn, layer::SubscriberExt};

use super::{
    event_line::event_line,
    log_format::{JsonEvents, LogFormat},
    status, text, warn,
};
use crate::runtime::Node;

/// Events within this time are shown together.
const GATHER: Duration = Duration::from_millis(500);
/// Events that are shown one by one. More at once, as during a catch-up, are shown as a number.
const SHOWN: usize = 8;
/// Time between two lines about the running experiment, without a terminal.
const PROGRESS_LINE: Duration = Duration::from_secs(10);
/// The template of the bar.
const BAR: &str = "{spinner} {prefix} {bar:24} {pos}/{len} {msg}";

/// Lines and changes in the queue of the display. More are dropped, because a terminal that stands still (Ctrl-S, a full
/// pipe) must not block the node.
const QUEUE: usize = 1024;
/// Log lines that are held back until the banner. A start logs a few; more are shown at once.
const HELD: usize = 64;
/// Attempts of the banner to find an address to show, and the time between two of them.
const LISTEN_ATTEMPTS: usize = 10;
const LISTEN_INTERVAL: Duration = Duration::from_millis(100);
/// Time that the end of the process waits for a slow terminal.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// Handle to the thread that writes to the terminal.
pub struct Display {
    queue: SyncSender<DisplayCommand>,
}

/// A command for the display thread.
enum DisplayCommand {
    Line(String),
    /// A line about something that happened now.
    Event(String),
    Log(Vec<u8>),
    Progress(Option<RunProgress>),
    /// Hold log lines back until [`DisplayCommand::Release`], so that the banner comes first.
    Hold,
    Release,
    /// Something that no line may come between.
    Between(Box<dyn FnOnce() + Send>),
    End(SyncSender<()>),
}

impl Display {
    /// # Errors
    /// When no thread can be started.
    pub fn new(format: LogFormat) -> io::Result<Self> {
        let (queue, commands) = sync_channel(QUEUE);
        std::thread::Builder::new().name("display".into()).spawn(move || Screen::new(format).run(&commands))?;
        Ok(Self { queue })
    }

    /// Prints a line above the bar.
    pub fn line(&self, line: &str) {
        self.send(DisplayCommand::Line(line.to_owned()));
    }

    /// Prints a line about something that happened now.
    fn event(&self, line: &str) {
        self.send(DisplayCommand::Event(line.to_owned()));
    }

    /// Does something while no line is being written.
    pub fn between_lines(&self, work: impl FnOnce() + Send + 'static) {
        self.send(DisplayCommand::Between(Box::new(work)));
    }

    /// Removes the bar and waits until everything is written.
    pub fn end(&self) {
        let (done, ended) = sync_channel(1);
        self.send(DisplayCommand::End(done));
        let _ = ended.recv_timeout(FLUSH_WITHIN);
    }

    fn send(&self, command: DisplayCommand) {
        // A full queue drops the command, see `QUEUE`.
        let _ = self.queue.try_send(command);
    }

    /// Prints the identity, the mode and the addresses of the node.
    pub async fn banner(&self, node: &Node, mode: Mode, proposer: Option<&str>, page: bool) {
        let live = listening(node).await;
        let mode_text = match mode {
            Mode::Research => "research: runs experiments, and re-runs some of other nodes'",
            Mode::Verify => "verify: re-runs the experiments of other nodes",
            Mode::Relay => "relay: keeps records and passes them on",
        };
        self.line(&format!("Spore {}", env!("CARGO_PKG_VERSION")));
        self.line(&format!("  node      {}", node.node_id));
        self.line(&format!("  mode      {mode_text}"));
        let task = live.active_task.map(|task| node.view.task(&task.to_string()));
        let task = match task {
            Some(Ok(task)) => format!("{} ({})", text::name(&task.name), text::short(&task.task_id)),
            Some(Err(_)) => "not known yet; peers are asked for it".to_owned(),
            None => "the default task".to_owned(),
        };
        self.line(&format!("  task      {task}"));
        let seeds = node.view.store().seeds().unwrap_or_default();
        let trusted: Vec<_> = seeds.iter().map(ToString::to_string).collect();
        self.line(&format!("  trust     {}", status::trust(&trusted, &node.node_id.to_string())));
        if let (Some(device), Some(class)) = (&live.device, &live.hardware_class) {
            self.line(&format!("  device    {} (class {class})", text::line(device)));
        }
        if mode == Mode::Research {
            self.line(&format!(
                "  proposer  {}",
                proposer.unwrap_or("built in (`spore set PROVIDER KEY` chooses a language model)")
            ));
        }
        for address in &live.listen_addresses {
            self.line(&format!("  listens   {address}"));
        }
        for address in &live.legacy_listen_addresses {
            self.line(&format!("  bridge    {address}, for peers of the existing network"));
        }
        if let Some(public) = &node.public_peer {
            self.line(&format!("  tries     {public}, because no peer is configured (`--no-bootstrap` prevents it)"));
        }
        if page {
            self.line(&format!("  explorer  http://{}", node.address));
        }
        self.line("Press Ctrl-C to stop.");
        self.send(DisplayCommand::Release);
    }
}

/// The state of the node as soon as it has an address, or after the last attempt.
async fn listening(node: &Node) -> Live {
    let mut live = node.live.now().await;
    for _ in 0..LISTEN_ATTEMPTS {
        if !live.listen_addresses.is_empty() {
            break;
        }
        sleep(LISTEN_INTERVAL).await;
        live = node.live.now().await;
    }
    live
}

/// Shows events and progress until the task is aborted.
pub async fn follow(display: Arc<Display>, live: LiveNode, view: StoreView) {
    let mut events = live.events.subscribe();
    let mut progress = live.progress.clone();
    let mut gathered: Vec<Change> = Vec::new();
    let mut missed = 0;
    let mut tick = interval(GATHER);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) if gathered.len() <= SHOWN => gathered.push(event.change),
                Ok(_) => missed += 1,
                Err(RecvError::Lagged(n)) => missed += n,
                Err(RecvError::Closed) => return,
            },
            Ok(()) = progress.changed() => {
                let now = progress.borrow_and_update().clone();
                display.send(DisplayCommand::Progress(now));
            }
            _ = tick.tick() => {
                show_changes(&display, &view, std::mem::take(&mut gathered), std::mem::take(&mut missed)).await;
            }
        }
    }
}

async fn show_changes(display: &Display, view: &StoreView, changes: Vec<Change>, missed: u64) {
    if changes.is_empty() {
        return;
    }
    if missed > 0 || changes.len() > SHOWN {
        display.event(&format!("{} more records and events arrived", changes.len() as u64 + missed));
        return;
    }
    let view = view.clone();
    let activities = tokio::task::spawn_blocking(move || view.activities_of(&changes).unwrap_or_default());
    for activity in activities.await.unwrap_or_default() {
        let class = activity.hardware_class.map(|class| format!(" [{class}]")).unwrap_or_default();
        display.event(&format!("{}{class}", text::line(&activity.text)));
    }
}

/// The state of the terminal. Write errors are ignored: a terminal that went away does not stop the node.
struct Screen {
    format: LogFormat,
    /// Standard output is a terminal, which can show a bar.
    terminal: bool,
    bar: Option<ProgressBar>,
    /// Time of the last line about the running experiment, without a terminal.
    reported: Option<Instant>,
    /// Log lines that are held back. None: log lines are shown at once.
    held: Option<Vec<Vec<u8>>>,
}

impl Screen {
    fn new(format: LogFormat) -> Self {
        let terminal = format == LogFormat::Text && io::stdout().is_terminal();
        Self { format, terminal, bar: None, reported: None, held: None }
    }

    fn run(mut self, commands: &Receiver<DisplayCommand>) {
        while let Ok(command) = commands.recv() {
            match command {
                DisplayCommand::Line(line) => self.line(&line),
                DisplayCommand::Event(line) => self.event(&line),
                DisplayCommand::Log(bytes) => match &mut self.held {
                    Some(held) if held.len() < HELD => held.push(bytes),
                    _ => self.log(&bytes),
                },
                DisplayCommand::Hold => self.held = Some(Vec::new()),
                DisplayCommand::Release => self.release(),
                DisplayCommand::Progress(now) => self.progress(now.as_ref()),
                DisplayCommand::Between(work) => {
                    let _ = self.above_the_bar(|| io::stdout().flush());
                    work();
                }
                DisplayCommand::End(done) => {
                    self.release();
                    self.progress(None);
                    let _ = io::stdout().flush();
                    let _ = done.try_send(());
                }
            }
        }
    }

    fn log(&self, bytes: &[u8]) {
        let _ = self.above_the_bar(|| io::stderr().write_all(bytes));
    }

    fn release(&mut self) {
        for bytes in self.held.take().unwrap_or_default() {
            self.log(&bytes);
        }
    }

    fn line(&self, line: &str) {
        let line = self.format.line(line);
        let _ = self.above_the_bar(|| writeln!(io::stdout(), "{line}"));
    }

    /// Writes while the bar is away. A bar of its own ignores a terminal that went away; one of several
    /// ([`indicatif::MultiProgress`]) would panic.
    fn above_the_bar<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn event(&self, line: &str) {
        match self.format {
            LogFormat::Text => self.line(&event_line(line, self.terminal)),
            LogFormat::Json => self.line(line),
        }
    }

    fn progress(&mut self, now: Option<&RunProgress>) {
        let Some(now) = now else {
            if let Some(bar) = self.bar.take() {
                bar.finish_and_clear();
            }
            self.reported = None;
            return;
        };
        let loss = now.loss.map(|loss| format!("loss {loss:.3}, ")).unwrap_or_default();
        let elapsed = text::duration(now.elapsed.as_secs());
        let what = match now.purpose {
            Purpose::Research => "training",
            Purpose::Verify => "re-running",
        };
        let description = text::line(&now.description);
        if self.terminal {
            let bar = self.bar.get_or_insert_with(new_bar);
            bar.set_prefix(what);
            bar.set_length(now.steps);
            bar.set_position(now.step);
            bar.set_message(format!("{loss}{elapsed}: {description}"));
            return;
        }
        match self.reported {
            None => self.event(&format!("{what}: {description}")),
            Some(reported) if reported.elapsed() >= PROGRESS_LINE => {
                self.event(&format!("{what}: step {} of {}, {loss}{elapsed}", now.step, now.steps));
            }
            Some(_) => return,
        }
        self.reported = Some(Instant::now());
    }
}

fn new_bar() -> ProgressBar {
    let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stdout_with_hz(4)).with_style(style)
}

/// Writes log messages to standard error, above the bar.
pub fn log_to(display: &Arc<Display>, verbose: u8, format: LogFormat) {
    // warp logs an error for every client that disconnects, and Kademlia a warning on the first node of a network.
    // A target matches by its beginning: `spore_` stands for all crates of this program.
    let default = match verbose {
        0 => "warn,warp::server=off,libp2p_kad=error,spore_lab::research=info,spore_lab::verify=info",
        1 => "warn,warp::server=off,libp2p_kad=error,spore_=info",
        _ => "info,spore_=debug",
    };
    let chosen = match std::env::var("SPORE_LOG") {
        Ok(text) if !text.trim().is_empty() => match EnvFilter::try_new(&text) {
            Ok(filter) => Some(filter),
            Err(error) => {
                warn(&format!("SPORE_LOG has no effect: {error}. Such as `info` or `spore_network=debug` has one"));
                None
            }
        },
        _ => None,
    };
    let brief = verbose == 0 && chosen.is_none();
    let filter = chosen.unwrap_or_else(|| EnvFilter::new(default));
    if brief {
        display.send(DisplayCommand::Hold);
    }
    let display = display.clone();
    let writer = move || LogWriter { display: display.clone() };
    let colored = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
    let shown = filter_fn(move |event| !brief || !is_displayed(event));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    // A second call could fail only in a test.
    let _ = match format {
        LogFormat::Text => {
            let lines = lines.with_target(false).with_ansi(colored).finish().with(shown);
            tracing::subscriber::set_global_default(lines)
        }
        LogFormat::Json => {
            let lines = lines.with_ansi(false).event_format(JsonEvents).finish().with(shown);
            tracing::subscriber::set_global_default(lines)
        }
    };
}

/// Whether the display shows the event itself: the start and the result of an experiment.
fn is_displayed(event: &Metadata<'_>) -> bool {
    *event.level() == Level::INFO && ["record", "change", "id"].iter().any(|key| event.fields().field(key).is_some())
}

struct LogWriter {
    display: Arc<Display>,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.display.send(DisplayCommand::Log(bytes.to_vec()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
