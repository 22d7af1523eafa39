//! `spore log`: shows the log of a node in the background.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    time::Duration,
};

use clap::Args as ClapArgs;

use super::super::{CliError, Context, log_file::numbered};
use crate::process_file::{NodeProcess, Place};

/// Time between two looks at a log that is followed.
const FOLLOW: Duration = Duration::from_millis(250);
/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;
/// Lines that are shown: a screen.
const LINES: usize = 40;

/// Show the log of a node that runs in the background
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Go on with what is written from now on, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// The number of lines at the end that are shown
    #[arg(long, short = 'n', value_name = "LINES", default_value_t = LINES)]
    lines: usize,
}

/// Shows the last lines of the log.
///
/// # Errors
/// When there is no log.
pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let path = context.data.log();
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CliError::not_found(
                "there is no log: no node has run in the background on this data directory",
            )
            .hint(elsewhere(context)));
        }
        Err(error) => return Err(CliError::io(path.display(), &error)),
    };
    let failed = |error: io::Error| CliError::io(path.display(), &error);
    let mut place = begin_of_last(&mut file, args.lines).map_err(failed)?;
    place = copy(&mut file, place, &mut context.out)?;
    context.out.flush()?;
    if !args.follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(FOLLOW).await;
        let length = file.metadata().map_err(failed)?.len();
        if length < place {
            // The contents have moved away. Their end is the end of the older log.
            if let Ok(mut older) = File::open(numbered(&path, 1)) {
                copy(&mut older, place, &mut context.out)?;
            }
            place = 0;
        }
        place = copy(&mut file, place, &mut context.out)?;
        context.out.flush()?;
    }
}

/// Where the messages of a node are that does not write to the log.
fn elsewhere(context: &Context) -> &'static str {
    match NodeProcess::running(&context.data.process()).map(|process| process.place) {
        Some(Place::Foreground) => {
            "the node prints its messages where it was started; `spore start` keeps them in a log"
        }
        Some(Place::Service) => "the service's messages are shown by `journalctl --user -u spore`, or without `--user`",
        Some(Place::Background) | None => "`spore start` starts a node in the background",
    }
}

/// Copies a file from a place to its present end. Returns the place of that end.
fn copy(file: &mut File, from: u64, out: &mut dyn Write) -> Result<u64, CliError> {
    let read = |error: io::Error| CliError::io("cannot read the log", &error);
    let length = file.metadata().map_err(read)?.len();
    file.seek(SeekFrom::Start(from)).map_err(read)?;
    let mut left = file.take(length.saturating_sub(from));
    let mut copied = 0;
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = left.read(&mut chunk).map_err(read)?;
        let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(from + copied) };
        out.write_all(bytes)?;
        copied += count as u64;
    }
}

/// The place where the last `lines` lines begin.
fn begin_of_last(file: &mut File, lines: usize) -> io::Result<u64> {
    let end = file.metadata()?.len();
    let (mut place, mut found) = (end, 0);
    let mut chunk = vec![0; CHUNK];
    while place > 0 {
        let size = place.min(CHUNK as u64);
        place -= size;
        file.seek(SeekFrom::Start(place))?;
        let bytes = chunk.get_mut(..usize::try_from(size).unwrap_or(CHUNK)).unwrap_or_default();
        file.read_exact(bytes)?;
        for (at, _) in bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let behind = place + at as u64 + 1;
            // The end of the last line is the begin of no other.
            if behind == end {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok(behind);
            }
        }
    }
    Ok(if lines == 0 { end } else { 0 })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn log_shows_its_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let long = "x".repeat(CHUNK);
        fs::write(&path, format!("one\n{long}\nthree\nfour\nrest")).unwrap();
        let mut file = File::open(&path).unwrap();
        let mut shown = |lines: usize| {
            let from = begin_of_last(&mut file, lines).unwrap();
            let mut out = Vec::new();
            copy(&mut file, from, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(0), "");
        assert_eq!(shown(1), "rest");
        assert_eq!(shown(2), "four\nrest");
        assert_eq!(shown(4), format!("{long}\nthree\nfour\nrest"));
        assert!(shown(5).starts_with("one\n") && shown(99).starts_with("one\n"));
    }
}
