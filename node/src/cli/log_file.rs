//! The file that a node in the background writes its output to, within a bound.
//!
//! Beyond the bound the contents of `node.log` move to `node.log.1`, and what was there to `node.log.2`: the file stays the
//! same one, so every process that writes to it goes on.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

use super::display::Display;

/// Bytes of the log before its contents move away: weeks of a node that shows warnings and results.
const MOST: u64 = 8 << 20;
/// Older logs that are kept. With the present one they take 24 MiB.
const KEPT: usize = 2;
/// Time between two looks at the size of the log. At the highest level a node writes some hundred KiB in it.
const LOOK: Duration = Duration::from_secs(1);

/// Opens the log to write at its end. Its contents move away first if they are beyond the bound.
///
/// # Errors
/// When the file cannot be opened.
pub fn open(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|log| log.len() > MOST) {
        let _ = rotate(path);
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Keeps the log of this process within its bound. Never ends.
pub async fn keep_bounded(path: PathBuf, display: Arc<Display>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if tokio::fs::metadata(&path).await.is_ok_and(|log| log.len() > MOST) {
            let path = path.clone();
            // The thread that writes the lines does it, so no line falls between the copy and the cut.
            display.between_lines(move || drop(rotate(&path)));
        }
    }
}

/// Moves the contents of the log to the next older one. On a full disk they are lost: a log that grows on would be worse.
///
/// # Errors
/// When the log cannot be cut.
fn rotate(path: &Path) -> io::Result<()> {
    for number in (1..KEPT).rev() {
        let _ = fs::rename(numbered(path, number), numbered(path, number + 1));
    }
    if fs::copy(path, numbered(path, 1)).is_err() {
        let _ = fs::remove_file(numbered(path, 1));
    }
    OpenOptions::new().write(true).open(path)?.set_len(0)
}

/// The name of an older log.
pub fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn rotated_logs_are_bounded_in_number_and_their_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = open(&path).unwrap();
        for text in ["first", "second", "third", "fourth"] {
            write!(writer, "{text}").unwrap();
            rotate(&path).unwrap();
        }
        write!(writer, "now").unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!([read(&path), read(&numbered(&path, 1)), read(&numbered(&path, 2))], ["now", "fourth", "third"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1 + KEPT);
    }
}
