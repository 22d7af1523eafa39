//! The time in which an artifact grows old, by a clock that may jump.
//!
//! A clock that is a month ahead looks like a month in which nothing was used, and a cache that drops what is old would
//! drop everything. So the time of the last look stands in `artifacts/seen`, and a long time without a look does not
//! count: every artifact is used later by as much. A time that lies ahead after the clock went back only protects.

use std::{
    fs::{self, File, FileTimes},
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use super::{Artifacts, absent};
use crate::{
    error::{Result, StoreError},
    files::replace,
};

/// Longest time between two looks that counts, in seconds. A running node looks every hour; a machine that is off over a
/// weekend still lets artifacts grow old.
const PAUSE: u64 = 3 * 86_400;

/// Most bytes of the file: a number of 64 bits.
const LENGTH: u64 = 20;

impl Artifacts {
    /// Notes the time, and lets a long time since the last look count for nothing.
    pub fn look(&self, now: u64) -> Result<()> {
        let missed = self.missed(now)?;
        if missed > 0 {
            let days = missed / 86_400;
            tracing::warn!(days, "the clock jumped, or nothing ran here: this time does not make artifacts old");
            self.each(&mut |stored| {
                let path = self.path_of(&stored.cid);
                let seconds = Duration::from_secs(stored.last_used.saturating_add(missed));
                let Some(time) = UNIX_EPOCH.checked_add(seconds) else { return Ok(()) };
                match File::open(&path).and_then(|file| file.set_times(FileTimes::new().set_modified(time))) {
                    Ok(()) => Ok(()),
                    Err(error) => absent::<()>(error, "set the time of", &path).map(drop),
                }
            })?;
        }
        fs::create_dir_all(&self.root).map_err(|e| StoreError::io("create", &self.root, &e))?;
        match replace(&self.root, &self.seen(), now.to_string().as_bytes()) {
            // Dropping artifacts is what helps then. The time is noted at the next look.
            Err(StoreError::DiskFull) => Ok(()),
            noted => noted,
        }
    }

    /// Seconds until `now` that do not count: all since the last look when they are many, else none. An unreadable file
    /// counts as none.
    pub fn missed(&self, now: u64) -> Result<u64> {
        let path = self.seen();
        let text = match fs::metadata(&path) {
            Ok(file) if file.len() > LENGTH => return Ok(0),
            Ok(_) => fs::read_to_string(&path).map_err(|e| StoreError::io("read", &path, &e))?,
            Err(error) => return Ok(absent::<u64>(error, "read", &path)?.unwrap_or(0)),
        };
        let since = text.trim().parse().map_or(0, |seen| now.saturating_sub(seen));
        Ok(if since > PAUSE { since } else { 0 })
    }

    fn seen(&self) -> PathBuf {
        self.root.join("seen")
    }
}
