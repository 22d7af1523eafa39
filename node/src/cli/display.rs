//! What a running node shows in its terminal: a banner, a line for each event of interest, and the
//! running experiment: a bar on a terminal, a line now and then otherwise.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
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

use super::text;
use crate::runtime::Node;

/// Time over which events are gathered.
const GATHER: Duration = Duration::from_millis(500);
/// Events told one by one; more at once, as while catching up, are told as a number.
const TOLD: usize = 8;
/// Time between two lines about the running experiment where there is no terminal.
const PROGRESS_LINE: Duration = Duration::from_secs(10);
/// Columns of the bar's own text.
const BAR: &str = "{spinner} {prefix} {bar:24} {pos}/{len} {msg}";

/// Lines and changes waiting to be shown. More are dropped: a terminal that stands still (Ctrl-S, a
/// full pipe) must not hold up the node.
const QUEUE: usize = 1024;
/// Log lines kept back until the banner: a start says a few. Those beyond are shown at once.
const HELD: usize = 64;
/// How often, and after how long each time, the banner looks for a first address to tell.
const LISTEN_LOOKS: usize = 10;
const LISTEN_LOOK: Duration = Duration::from_millis(100);
/// How long the end of the process waits for a slow terminal.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// The terminal of a running node: a thread of its own that writes what is handed to it.
pub struct Display {
    queue: SyncSender<Show>,
}

enum Show {
    Line(String),
    Log(Vec<u8>),
    Progress(Option<RunProgress>),
    /// Log lines wait for [`Show::Release`], so that the banner comes first.
    Hold,
    Release,
    End(SyncSender<()>),
}

impl Display {
    /// # Errors
    /// When no thread can be started.
    pub fn new() -> io::Result<Self> {
        let (queue, waiting) = sync_channel(QUEUE);
        std::thread::Builder::new().name("display".into()).spawn(move || Screen::new().run(&waiting))?;
        Ok(Self { queue })
    }

    /// Prints a line above the bar.
    pub fn line(&self, line: &str) {
        self.show(Show::Line(line.to_owned()));
    }

    /// Takes the bar away and waits until everything is written.
    pub fn end(&self) {
        let (done, ended) = sync_channel(1);
        self.show(Show::End(done));
        let _ = ended.recv_timeout(FLUSH_WITHIN);
    }

    fn show(&self, what: Show) {
        // Full: see `QUEUE`.
        let _ = self.queue.try_send(what);
    }

    /// Who this is and where it can be reached.
    pub async fn banner(&self, node: &Node, mode: Mode, proposer: Option<&str>, page: bool) {
        let live = listening(node).await;
        let does = match mode {
            Mode::Research => "research: runs experiments, and re-runs some of others'",
            Mode::Verify => "verify: re-runs others' experiments",
            Mode::Relay => "relay: keeps records and passes them on",
        };
        self.line(&format!("Spore {}", env!("CARGO_PKG_VERSION")));
        self.line(&format!("  node      {}", node.node_id));
        self.line(&format!("  mode      {does}"));
        let task = live.active_task.map(|task| node.view.task(&task.to_string()));
        let task = match task {
            Some(Ok(task)) => format!("{} ({})", text::line(&task.name), text::short(&task.task_id)),
            Some(Err(_)) => "not known here yet: looked for among peers".to_owned(),
            None => "the most active one".to_owned(),
        };
        self.line(&format!("  task      {task}"));
        if let (Some(device), Some(class)) = (&live.device, &live.hardware_class) {
            self.line(&format!("  device    {} (class {class})", text::line(device)));
        }
        if mode == Mode::Research {
            self.line(&format!(
                "  proposer  {}",
                proposer.unwrap_or("built in (`spore set PROVIDER KEY` lets a language model propose)")
            ));
        }
        for address in &live.listen_addresses {
            self.line(&format!("  listens   {address}"));
        }
        for address in &live.legacy_listen_addresses {
            self.line(&format!("  bridge    {address}, for peers of the existing network"));
        }
        if let Some(public) = &node.tries {
            self.line(&format!("  tries     {public}, since no peer is named (never with --no-bootstrap)"));
        }
        if page {
            self.line(&format!("  explorer  http://{}", node.address));
        }
        self.line("Ctrl-C ends it.");
        self.show(Show::Release);
    }
}

/// The node now, or as soon as it has an address, for which it needs a moment.
async fn listening(node: &Node) -> Live {
    let mut live = node.live.now().await;
    for _ in 0..LISTEN_LOOKS {
        if !live.listen_addresses.is_empty() {
            break;
        }
        sleep(LISTEN_LOOK).await;
        live = node.live.now().await;
    }
    live
}

/// Shows events and progress until aborted.
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
                Ok(event) if gathered.len() <= TOLD => gathered.push(event.change),
                Ok(_) => missed += 1,
                Err(RecvError::Lagged(n)) => missed += n,
                Err(RecvError::Closed) => return,
            },
            Ok(()) = progress.changed() => {
                let now = progress.borrow_and_update().clone();
                display.show(Show::Progress(now));
            }
            _ = tick.tick() => {
                tell(&display, &view, std::mem::take(&mut gathered), std::mem::take(&mut missed)).await;
            }
        }
    }
}

async fn tell(display: &Display, view: &StoreView, changes: Vec<Change>, missed: u64) {
    if changes.is_empty() {
        return;
    }
    if missed > 0 || changes.len() > TOLD {
        display.line(&format!("{} more records and events came in", changes.len() as u64 + missed));
        return;
    }
    let view = view.clone();
    let told = tokio::task::spawn_blocking(move || {
        changes.iter().filter_map(|change| view.activity_of(change).ok().flatten()).collect::<Vec<_>>()
    });
    for activity in told.await.unwrap_or_default() {
        let class = activity.hardware_class.map(|class| format!(" [{class}]")).unwrap_or_default();
        display.line(&format!("{}{class}", text::line(&activity.text)));
    }
}

/// What is on the terminal. Errors of writing are left alone: a terminal that went away does not end
/// the node.
struct Screen {
    bars: MultiProgress,
    /// None where there is no terminal for a bar.
    terminal: bool,
    bar: Option<ProgressBar>,
    /// When a line was last printed for the running experiment, where there is no terminal.
    told: Option<Instant>,
    /// Log lines kept back; none: they are shown at once.
    held: Option<Vec<Vec<u8>>>,
}

impl Screen {
    fn new() -> Self {
        let terminal = io::stdout().is_terminal();
        let target = if terminal { ProgressDrawTarget::stdout_with_hz(4) } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target), terminal, bar: None, told: None, held: None }
    }

    fn run(mut self, waiting: &Receiver<Show>) {
        while let Ok(what) = waiting.recv() {
            match what {
                Show::Line(line) => self.line(&line),
                Show::Log(bytes) => match &mut self.held {
                    Some(held) if held.len() < HELD => held.push(bytes),
                    _ => self.log(&bytes),
                },
                Show::Hold => self.held = Some(Vec::new()),
                Show::Release => self.release(),
                Show::Progress(now) => self.progress(now.as_ref()),
                Show::End(done) => {
                    self.release();
                    self.progress(None);
                    let _ = io::stdout().flush();
                    let _ = done.try_send(());
                }
            }
        }
    }

    fn log(&self, bytes: &[u8]) {
        let _ = self.bars.suspend(|| io::stderr().write_all(bytes));
    }

    fn release(&mut self) {
        for bytes in self.held.take().unwrap_or_default() {
            self.log(&bytes);
        }
    }

    fn line(&self, line: &str) {
        let _ = self.bars.suspend(|| writeln!(io::stdout(), "{line}"));
    }

    fn progress(&mut self, now: Option<&RunProgress>) {
        let Some(now) = now else {
            if let Some(bar) = self.bar.take() {
                bar.finish_and_clear();
            }
            self.told = None;
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
            let bar = self.bar.get_or_insert_with(|| self.bars.add(new_bar()));
            bar.set_prefix(what);
            bar.set_length(now.steps);
            bar.set_position(now.step);
            bar.set_message(format!("{loss}{elapsed}: {description}"));
            return;
        }
        match self.told {
            None => self.line(&format!("{what}: {description}")),
            Some(told) if told.elapsed() >= PROGRESS_LINE => {
                self.line(&format!("{what}: step {} of {}, {loss}{elapsed}", now.step, now.steps));
            }
            Some(_) => return,
        }
        self.told = Some(Instant::now());
    }
}

fn new_bar() -> ProgressBar {
    let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

/// Sends log messages to standard error, above the bar.
pub fn log_to(display: &Arc<Display>, verbose: u8) {
    // warp calls every reader that goes away an error, and Kademlia warns of a node being the first.
    let default = match verbose {
        0 => "warn,warp::server=off,libp2p_kad=error,spore_node::research=info,spore_node::verify=info",
        1 => "warn,warp::server=off,libp2p_kad=error,spore_node=info,spore_storage=info",
        _ => "info,spore_node=debug,spore_storage=debug",
    };
    let chosen = EnvFilter::try_from_env("SPORE_LOG").ok();
    let brief = verbose == 0 && chosen.is_none();
    let filter = chosen.unwrap_or_else(|| EnvFilter::new(default));
    if brief {
        display.show(Show::Hold);
    }
    let display = display.clone();
    let writer = move || LogWriter { display: display.clone() };
    let colored = io::stderr().is_terminal() && super::colored();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(colored)
        .with_writer(writer)
        .finish()
        .with(filter_fn(move |event| !brief || !is_told(event)));
    // A second call could fail only in a test.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// The display tells by itself what is run and what comes of it: so the log need not, at info.
fn is_told(event: &Metadata<'_>) -> bool {
    *event.level() == Level::INFO && ["record", "change", "id"].iter().any(|key| event.fields().field(key).is_some())
}

struct LogWriter {
    display: Arc<Display>,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.display.show(Show::Log(bytes.to_vec()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
