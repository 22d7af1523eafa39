//! Gossipsub topics: three for each task, and two that all nodes subscribe to.

use std::{fmt, str::FromStr};

use crate::{Kind, TaskId};

/// Prefix of all topics and protocols of our own network.
pub const PREFIX: &str = "/spore/1";

/// A gossipsub topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Records of one task.
    Record(TaskId),
    /// Control events about records of one task.
    Control(TaskId),
    /// The manifest of one task.
    Manifest(TaskId),
    /// Manifests of all tasks, by which nodes discover tasks.
    Tasks,
    /// Node profiles.
    Profiles,
}

impl Topic {
    /// The three topics of one task.
    pub const fn of_task(task: TaskId) -> [Self; 3] {
        [Self::Record(task), Self::Control(task), Self::Manifest(task)]
    }

    /// Whether the topic carries objects of this kind.
    pub const fn carries(&self, kind: Kind) -> bool {
        matches!(
            (self, kind),
            (Self::Record(_), Kind::Experiment)
                | (Self::Control(_), Kind::Control)
                | (Self::Manifest(_) | Self::Tasks, Kind::Task)
                | (Self::Profiles, Kind::Profile)
        )
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(task) => write!(f, "{PREFIX}/task/{task}/record"),
            Self::Control(task) => write!(f, "{PREFIX}/task/{task}/control"),
            Self::Manifest(task) => write!(f, "{PREFIX}/task/{task}/manifest"),
            Self::Tasks => write!(f, "{PREFIX}/task"),
            Self::Profiles => write!(f, "{PREFIX}/profile"),
        }
    }
}

impl FromStr for Topic {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let rest = text.strip_prefix(PREFIX).ok_or(())?;
        match rest.split('/').collect::<Vec<_>>().as_slice() {
            ["", "task"] => Ok(Self::Tasks),
            ["", "profile"] => Ok(Self::Profiles),
            ["", "task", task, family] => {
                let task = task.parse().map_err(|_| ())?;
                match *family {
                    "record" => Ok(Self::Record(task)),
                    "control" => Ok(Self::Control(task)),
                    "manifest" => Ok(Self::Manifest(task)),
                    _ => Err(()),
                }
            }
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_round_trip() {
        let task = TaskId([7; 32]);
        for topic in Topic::of_task(task).into_iter().chain([Topic::Tasks, Topic::Profiles]) {
            assert_eq!(topic.to_string().parse(), Ok(topic));
        }
        assert!("/spore/1/task/zz/record".parse::<Topic>().is_err());
    }
}
