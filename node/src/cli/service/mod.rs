//! `spore service`: the node as a service of systemd, which starts it with the machine and again after a failure.

pub mod notify;

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

use clap::{Args as ClapArgs, Subcommand};

use super::{CliError, Context, background::names_directory};

/// The name of the unit.
const UNIT: &str = "spore.service";
/// Where the units of the system are that an administrator installs.
const SYSTEM_UNITS: &str = "/etc/systemd/system";
/// The data directory of the system's service, which systemd makes and gives to the user of the service.
const SYSTEM_DATA: &str = "/var/lib/spore";

/// Install the node as a service that starts with the machine, or remove it
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write the unit file of systemd, and tell how to start the service
    ///
    /// Flags of `spore run` follow behind `--`: `spore service install -- --no-train`.
    Install(Install),
    /// Stop the service and remove its unit file. The data directory stays
    Uninstall(Uninstall),
}

#[derive(Debug, ClapArgs)]
struct Install {
    /// For the whole machine, as the user `spore`, and not for this user alone
    #[arg(long)]
    system: bool,
    /// Print the unit file, and write nothing
    #[arg(long)]
    print: bool,
    /// The program that the unit starts, for packages [default: this program]
    #[arg(long, value_name = "FILE", hide = true)]
    program: Option<PathBuf>,
    /// Flags of `spore run`
    #[arg(last = true, value_name = "FLAGS")]
    flags: Vec<String>,
}

#[derive(Debug, ClapArgs)]
struct Uninstall {
    /// The service of the whole machine
    #[arg(long)]
    system: bool,
}

/// Folders that the unit of a system service does not see: `ProtectHome` and `PrivateTmp`.
const HIDDEN: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];

/// Writes or removes the unit file.
///
/// # Errors
/// When a flag is unknown, or the file cannot be written or removed.
pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    match &args.command {
        Action::Install(args) => install(args, context),
        Action::Uninstall(args) => uninstall(args.system, context),
    }
}

fn install(args: &Install, context: &mut Context) -> Result<(), CliError> {
    if args.flags.iter().any(|flag| flag == "--in-background" || names_directory(OsStr::new(flag))) {
        return Err(CliError::usage("a service runs in the foreground, on a data directory of its own")
            .hint("give `--data-dir` before `service`"));
    }
    let words: Vec<&str> = ["spore", "run"].into_iter().chain(args.flags.iter().map(String::as_str)).collect();
    super::check_arguments(&words).map_err(|error| super::usage(&error))?;
    let program = match &args.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(|e| CliError::io("cannot find the file of this program", &e))?,
    };
    if args.system && HIDDEN.iter().any(|hidden| program.starts_with(hidden)) {
        return Err(CliError::failed(format!("{} is hidden from a system service", program.display()))
            .hint("`sudo install -m 755 PROGRAM /usr/local/bin/spore`, and install the service with that one"));
    }
    let data = if args.system { Path::new(SYSTEM_DATA) } else { context.data.root() };
    let text = unit(args.system, &program, data, &args.flags)?;
    if args.print {
        return Ok(write!(context.out, "{text}")?);
    }
    let path = unit_path(args.system, |name| std::env::var_os(name))?;
    let failed = |e: io::Error| CliError::io(path.display(), &e);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(&path, text).map_err(failed)?;
    writeln!(context.out, "Wrote {}. Next:", path.display())?;
    if args.system {
        writeln!(context.out, "  sudo useradd --system --home-dir {SYSTEM_DATA} --shell /usr/sbin/nologin spore")?;
        writeln!(context.out, "  sudo systemctl daemon-reload && sudo systemctl enable --now spore")?;
        return Ok(writeln!(context.out, "`journalctl -u spore -f` shows what it prints.")?);
    }
    writeln!(context.out, "  systemctl --user daemon-reload && systemctl --user enable --now spore")?;
    writeln!(context.out, "  loginctl enable-linger    (it runs while you are logged out, too)")?;
    Ok(writeln!(context.out, "`journalctl --user -u spore -f` shows what it prints.")?)
}

fn uninstall(system: bool, context: &mut Context) -> Result<(), CliError> {
    let path = unit_path(system, |name| std::env::var_os(name))?;
    if !path.exists() {
        return Err(CliError::not_found(format!("{}: there is no such service", path.display())));
    }
    let manager = if system { "--system" } else { "--user" };
    // Without a manager nothing runs that would have to be stopped.
    let stopped = Command::new("systemctl").args([manager, "disable", "--now", UNIT]).output();
    fs::remove_file(&path).map_err(|e| CliError::io(path.display(), &e))?;
    let _ = Command::new("systemctl").args([manager, "daemon-reload"]).output();
    writeln!(context.out, "Removed {}. The data directory stays.", path.display())?;
    if !stopped.is_ok_and(|done| done.status.success()) {
        writeln!(context.out, "systemd did not stop the service; `spore stop` stops a node that runs.")?;
    }
    Ok(())
}

/// Where the unit file is.
fn unit_path(system: bool, variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, CliError> {
    if system {
        return Ok(Path::new(SYSTEM_UNITS).join(UNIT));
    }
    let given = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = given("XDG_CONFIG_HOME").or_else(|| given("HOME").map(|home| home.join(".config")));
    let config = config.ok_or_else(|| CliError::failed("there is no home directory").hint("set HOME"))?;
    Ok(config.join("systemd/user").join(UNIT))
}

/// A word of a command line as systemd reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}

/// The unit file.
fn unit(system: bool, program: &Path, data: &Path, flags: &[String]) -> Result<String, CliError> {
    let text = |path: &Path| {
        let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
        text.map(quoted)
            .ok_or_else(|| CliError::failed(format!("{}: not a name that systemd can read", path.display())))
    };
    if flags.iter().any(|flag| flag.chars().any(char::is_control)) {
        return Err(CliError::usage("a flag has a control character"));
    }
    let (program, data) = (text(program)?, text(data)?);
    let flags: String = flags.iter().map(|flag| format!(" {}", quoted(flag))).collect();
    let (own, target) = if system { (include_str!("system.txt"), "multi-user.target") } else { ("", "default.target") };
    Ok(include_str!("unit.txt")
        .replace("@PROGRAM@", &program)
        .replace("@DATA@", &data)
        .replace("@FLAGS@", &flags)
        .replace("@OWN@", own)
        .replace("@TARGET@", target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_runs_this_program_with_its_flags_quoted() {
        let flags = ["--no-train".to_owned(), "--task".into(), "two \"words\" 5%".into()];
        let text = unit(false, Path::new("/opt/my tools/spore"), Path::new("/srv/a/.spore"), &flags).unwrap();
        let start = text.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        assert_eq!(
            start,
            r#"ExecStart="/opt/my tools/spore" run --data-dir /srv/a/.spore --no-train --task "two \"words\" 5%%""#
        );
        assert!(text.contains("Type=notify") && text.contains("WatchdogSec=") && !text.contains('@'), "{text}");
        assert!(text.contains("WantedBy=default.target") && !text.contains("User="), "{text}");
        let system = unit(true, Path::new("/usr/bin/spore"), Path::new(SYSTEM_DATA), &[]).unwrap();
        assert!(system.contains("User=spore") && system.contains("WantedBy=multi-user.target"), "{system}");
        assert!(system.contains("StateDirectory=spore") && !system.contains('@'), "{system}");
        assert!(unit(false, Path::new("/a\nb"), Path::new("/d"), &[]).is_err(), "no line of its own");
    }

    #[test]
    fn unit_of_a_user_is_in_the_folder_of_the_user() {
        let home = |name: &str| (name == "HOME").then(|| "/srv/a".into());
        assert_eq!(unit_path(false, home).unwrap(), Path::new("/srv/a/.config/systemd/user/spore.service"));
        assert_eq!(unit_path(false, |_| Some("/x".into())).unwrap(), Path::new("/x/systemd/user/spore.service"));
        assert!(unit_path(false, |_| None).is_err());
        assert_eq!(unit_path(true, |_| None).unwrap(), Path::new("/etc/systemd/system/spore.service"));
    }
}
