//! What users of the reference (sporemesh) type and what has no effect here: its environment variables and the flags of its
//! updates. Its other flags stand with their commands.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Args as ClapArgs, Command, value_parser};

/// Environment variables of the reference, and why they have no effect.
const VARIABLES: [(&str, &str); 6] = [
    ("SPORE_DISABLE_COMPILE", "scripts are traced once and never go through torch.compile"),
    ("SPORE_DISABLE_COMPILE_REASON", "scripts are traced once and never go through torch.compile"),
    ("SPORE_DISABLE_MODEL_COMPILE", "scripts are traced once and never go through torch.compile"),
    ("SPORE_ENABLE_OPTIMIZER_COMPILE", "scripts are traced once and never go through torch.compile"),
    ("SPORE_CHALLENGE_TIMEOUT", "a challenge has no deadline: the verdict follows from all measurements that arrive"),
    ("SPORE_DEBUG", "`spore run -v` shows more messages, and SPORE_LOG=debug still more"),
];

/// A note for each variable of the reference that is set and has no effect here.
pub fn environment_notes(variable: impl Fn(&str) -> Option<OsString>) -> Vec<String> {
    let set = VARIABLES.iter().filter(|(name, _)| variable(name).is_some_and(|value| !value.is_empty()));
    set.map(|(name, why)| format!("{name} has no effect in this program: {why}")).collect()
}

/// The flags of the reference's updates, which are accepted so that its scripts go on.
#[derive(Debug, Default, ClapArgs)]
pub struct Updates {
    /// Has no effect: this program does not update itself
    #[arg(long, hide = true, overrides_with = "no_auto_update")]
    auto_update: bool,
    /// Has no effect: this program does not update itself
    #[arg(long, hide = true)]
    no_auto_update: bool,
}

impl Updates {
    /// The warning for a flag that asks for what this program never does.
    pub fn note(&self) -> Option<&'static str> {
        self.auto_update.then_some("--auto-update has no effect: this program does not update itself")
    }
}

/// The command line with what its description in types cannot say: `-d` means the data directory, but in `graph` it means
/// the depth, as in the reference. So `graph` gets the flag of the whole program without the letter.
pub fn with_letters(command: Command) -> Command {
    let help =
        command.get_arguments().find(|argument| argument.get_id() == "data_dir").and_then(Arg::get_help).cloned();
    let directory = Arg::new("data_dir")
        .long("data-dir")
        .value_name("DIR")
        .action(ArgAction::Set)
        .value_parser(value_parser!(std::path::PathBuf))
        .help(help.unwrap_or_default());
    command.mut_subcommand("graph", |graph| graph.arg(directory))
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;
    use crate::cli::{Cli, check_arguments, command};

    fn words(line: &str) -> Vec<&str> {
        line.split(' ').collect()
    }

    #[test]
    fn command_lines_of_the_reference_are_accepted() {
        for line in [
            "spore init --no-auto-update",
            "spore start -p 7470 --no-train --no-auto-update",
            "spore stop -d /tmp/x",
            "spore log -f -n 5 -d /tmp/x",
            "spore clean --all --yes -d /tmp/x",
            "spore run -p 7470 -w 8470 -c peer.example.org:7470 -c h:1 -r 50 -d /tmp/x",
            "spore run --genesis --auto-update --task abc",
            "spore run --no-auto-update --no-train",
            "spore set",
            "spore set openai sk-x -m gpt-4o",
            "spore frontier -g RTX_4090 --task abc",
            "spore frontier --gpu RTX_4090",
            "spore graph -d 5 --task abc",
            "spore graph --depth 5",
            "spore status --task abc",
            "spore explorer -w 8471 --task abc",
            "spore profile show -d /tmp/x",
            "spore task list -d /tmp/x",
            "spore task show abc -d /tmp/x",
            "spore task create --name n",
            "spore task create --name n --description d --task-type ml_train --artifact-type python_train_script --metric val_bpb --goal minimize --base-code-cid abc --prepare-cid abc --dataset-cid abc --time-budget 300 -d /tmp/x",
        ] {
            check_arguments(&words(line)).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    #[test]
    fn data_directory_reaches_every_command() {
        for line in
            ["spore --data-dir /d graph", "spore graph --data-dir /d", "spore -d /d graph -d 3", "spore tasks -d /d"]
        {
            let matches = command().try_get_matches_from(words(line)).unwrap();
            let cli = Cli::from_arg_matches(&matches).unwrap();
            assert_eq!(cli.data_dir.as_deref(), Some(std::path::Path::new("/d")), "{line}");
        }
    }

    #[test]
    fn variables_of_the_reference_that_are_set_are_named() {
        let notes = environment_notes(|name| (name == "SPORE_DEBUG").then(|| "1".into()));
        assert_eq!(notes.len(), 1);
        assert!(notes.iter().all(|note| note.contains("SPORE_DEBUG has no effect")), "{notes:?}");
        assert!(environment_notes(|_| Some(OsString::new())).is_empty(), "an empty variable is not set");
    }
}
