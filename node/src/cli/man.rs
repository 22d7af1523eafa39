//! `spore man`: the manual pages, made from the help texts, so that the two never differ.

use std::{fs, io::Write, path::PathBuf};

use clap::Args as ClapArgs;

use super::{CliError, Context};

/// Write the manual pages into a directory
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "For one user, `spore man ~/.local/share/man/man1` installs them: `man spore` and `man spore-run` show \
    them then."
)]
pub struct Args {
    /// The directory, which is made if there is none; pages of the same names are replaced
    dir: PathBuf,
}

/// Writes a page for the program and one for each command.
///
/// # Errors
/// When the directory or a page cannot be written.
pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let failed = |e: &std::io::Error| CliError::io(args.dir.display(), e);
    fs::create_dir_all(&args.dir).map_err(|e| failed(&e))?;
    clap_mangen::generate_to(super::command(), &args.dir).map_err(|e| failed(&e))?;
    let first = args.dir.join("spore.1");
    writeln!(
        context.out,
        "The manual pages are in {}. `man {}` shows the first.",
        args.dir.display(),
        first.display()
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_manual_page() {
        let dir = tempfile::tempdir().unwrap();
        let mut context = Context { data: crate::data_dir::DataDir::new(dir.path()), out: Box::new(std::io::sink()) };
        let pages = dir.path().join("a/man1");
        run(&Args { dir: pages.clone() }, &mut context).unwrap();
        for command in super::super::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let page = fs::read_to_string(pages.join(format!("spore-{}.1", command.get_name()))).unwrap();
            assert!(page.contains(".SH NAME") && page.contains(".SH OPTIONS"), "{}", command.get_name());
        }
        let first = fs::read_to_string(pages.join("spore.1")).unwrap();
        assert!(first.contains("Exit codes") && pages.join("spore-task-create.1").is_file(), "{first}");
        assert!(!pages.join("spore-worker.1").exists(), "hidden commands have none");
    }
}
