//! `spore config`: the settings of config.toml, one by one or in an editor.
//!
//! A flag of `spore run` goes before a variable, a variable before the file, the file before the default.

use std::{
    fs,
    io::{IsTerminal as _, Write},
    path::PathBuf,
    process::Command,
};

use clap::{Args as ClapArgs, Subcommand};
use serde_json::json;
use spore_base::private_file::{read_text, write_private};
use toml::{Table, Value};

use super::{CliError, Context, access, text};
use crate::config::{self, ConfigError, environment::variable_of};

/// The defaults of the keys that have one, as they stand in the file.
const DEFAULTS: &str = "host = \"0.0.0.0\"\nport = 7470\np2p_port = 7471\nweb_port = 8470\nweb_host = \"127.0.0.1\"\n\
    listen = []\npeer = []\nresource = 100\ndevice = \"auto\"\ntrust = []\n[web]\nnames = []\nproxies = []\n[admin]\nhost = \"127.0.0.1\"\n";
/// The keys whose values no command shows.
const SECRETS: [&str; 2] = ["llm.api_key", "webhook.url"];
/// The editor where the environment names none.
const EDITOR: &str = "vi";

/// Show or change the configuration of the node
///
/// A flag of `spore run` overrides a variable SPORE_*, a variable overrides config.toml, and config.toml overrides the
/// default. A change keeps the comments of the file and a symbolic link in its place.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show all settings
    Show {
        /// Show where each value comes from
        #[arg(long)]
        origin: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the value of a key, such as `port` or `llm.model`
    Get {
        /// The key
        key: String,
    },
    /// Set a key in config.toml
    Set {
        /// The key
        key: String,
        /// The value; a list has commas between its items
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Remove a key from config.toml: the default applies
    Unset {
        /// The key
        key: String,
    },
    /// Open config.toml in the editor of VISUAL or EDITOR. It is replaced only by what the node can read
    Edit,
    /// Print the path of config.toml
    Path,
}

/// Runs the command.
///
/// # Errors
/// When the file cannot be read or written, or a key or a value is not known.
pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    match &args.command {
        Action::Show { origin, json } => show(*origin, *json, context),
        Action::Get { key } => get(key, context),
        Action::Set { key, value } => set(key, Some(value), context).await,
        Action::Unset { key } => set(key, None, context).await,
        Action::Edit => edit(context).await,
        Action::Path => Ok(writeln!(context.out, "{}", context.data.config().display())?),
    }
}

/// A setting, and where it comes from.
struct Setting {
    key: &'static str,
    /// None: not set, and there is no default.
    value: Option<Value>,
    origin: String,
}

impl Setting {
    fn text(&self) -> String {
        match &self.value {
            None => String::new(),
            Some(_) if SECRETS.contains(&self.key) => "(secret)".into(),
            Some(Value::String(text)) => text::line(text),
            Some(value) => text::line(&value.to_string()),
        }
    }
}

/// The text of a variable that is set. A blank one counts as not set, as for the node.
fn given(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.trim().is_empty())
}

/// All settings, in the order of the file that `spore init` writes.
fn settings(context: &Context) -> Result<Vec<Setting>, CliError> {
    // Warns about unknown keys, and refuses a variable that cannot be used.
    context.config()?;
    let text = config::text(&context.data.config())?;
    // The file was parsed before, so this text is good.
    let file: Table = text.parse().unwrap_or_default();
    let defaults: Table = DEFAULTS.parse().map_err(|e| CliError::failed(format!("the defaults: {e}")))?;
    let setting = |key: &'static str| {
        if let Some((name, text)) = variable_of(key).and_then(|name| Some((name, given(name)?))) {
            return Setting { key, value: Some(Value::String(text.trim().to_owned())), origin: name.to_owned() };
        }
        let mut names = [Some(key), config::other_name(key)].into_iter().flatten();
        if let Some((name, value)) = names.find_map(|name| Some((name, at(&file, name)?))) {
            let line = config::line_of_key(&text, name);
            let origin = line.map_or_else(|| "config.toml".to_owned(), |line| format!("config.toml line {line}"));
            return Setting { key, value: Some(value.clone()), origin };
        }
        let value = at(&defaults, key).cloned();
        let origin = if value.is_some() { "default" } else { "not set" };
        Setting { key, value, origin: origin.to_owned() }
    };
    Ok(config::value_keys().into_iter().map(setting).collect())
}

/// The value of a key such as `llm.model`.
fn at<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        Some((section, key)) => table.get(section)?.as_table()?.get(key),
        None => table.get(key),
    }
}

fn show(origin: bool, as_json: bool, context: &mut Context) -> Result<(), CliError> {
    let settings = settings(context)?;
    if as_json {
        let all: Vec<_> = settings
            .iter()
            .map(|one| {
                let value =
                    if SECRETS.contains(&one.key) { one.value.as_ref().map(|_| json!("(secret)")) } else { None };
                json!({ "key": one.key, "value": value.unwrap_or_else(|| json!(one.value)), "origin": one.origin })
            })
            .collect();
        return context.json(&all);
    }
    let width = settings.iter().map(|one| one.key.len()).max().unwrap_or_default();
    for one in &settings {
        let value = if one.value.is_none() { "(not set)".to_owned() } else { one.text() };
        let from = if origin && one.value.is_some() { format!("  ({})", one.origin) } else { String::new() };
        writeln!(context.out, "{:width$}  {value}{from}", one.key)?;
    }
    Ok(())
}

fn get(key: &str, context: &mut Context) -> Result<(), CliError> {
    let known = known(key)?;
    let found = settings(context)?.into_iter().find(|one| one.key == known);
    match found.filter(|one| one.value.is_some()) {
        Some(one) => Ok(writeln!(context.out, "{}", one.text())?),
        None => Err(CliError::not_found(format!("{known} is not set, and there is no default"))),
    }
}

/// The key of this name.
fn known(key: &str) -> Result<&'static str, CliError> {
    let found = config::value_keys().into_iter().find(|known| *known == key || config::other_name(known) == Some(key));
    found.ok_or_else(|| {
        let hint = match config::nearest_key(key) {
            Some(near) => format!("{near} was meant, perhaps; `spore config show` lists all keys"),
            None => "`spore config show` lists all keys".to_owned(),
        };
        CliError::usage(format!("there is no key {}", text::line(key))).hint(hint)
    })
}

async fn set(key: &str, value: Option<&str>, context: &mut Context) -> Result<(), CliError> {
    let key = known(key)?;
    context.data.create()?;
    let (table, name) = key.split_once('.').unwrap_or(("", key));
    let path = context.data.config();
    match value {
        None => config::set(&path, table, &[(name, None)])?,
        Some(value) => {
            // The first reading is the one that was meant, unless another one fits.
            let mut refused = None;
            for reading in readings(value) {
                match config::set(&path, table, &[(name, Some(reading))]) {
                    Ok(()) => {
                        refused = None;
                        break;
                    }
                    Err(error) => refused = refused.or(Some(error)),
                }
            }
            if let Some(error) = refused {
                return Err(wrong_value(key, error));
            }
        }
    }
    writeln!(context.out, "{}", if value.is_some() { format!("Set {key}.") } else { format!("Removed {key}.") })?;
    if let Some(variable) = variable_of(key).filter(|name| given(name).is_some()) {
        writeln!(context.out, "{variable} is set and overrides it.")?;
    }
    access::note_running(context).await
}

/// A value that its key does not take is a wrong word on the command line, not a fault of the file.
fn wrong_value(key: &str, error: ConfigError) -> CliError {
    match error {
        ConfigError::Corrupt { message, .. } => CliError::usage(format!("{key}: {}", after(&message, key))),
        ConfigError::Value(text) => CliError::usage(format!("{key}: {}", after(&text, key))),
        error => error.into(),
    }
}

/// The message without the place in the file, which is not written.
fn after<'a>(message: &'a str, key: &str) -> &'a str {
    message.split_once(key).map_or(message, |(_, rest)| rest.trim_start_matches([':', ' ']))
}

/// What a text on the command line can mean: a number, a boolean or a list as TOML writes it; a text; a list of texts.
fn readings(text: &str) -> Vec<Value> {
    let literal = format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let list = Value::Array(items.map(|item| Value::String(item.to_owned())).collect());
    literal.into_iter().chain([Value::String(text.to_owned()), list]).collect()
}

async fn edit(context: &mut Context) -> Result<(), CliError> {
    if !std::io::stdin().is_terminal() && editor_of_environment().is_none() {
        return Err(
            CliError::usage("there is no terminal for an editor").hint("`spore config set KEY VALUE` sets one key")
        );
    }
    context.data.create()?;
    let path = context.data.config();
    config::create(&path)?;
    let draft = draft(context);
    // The draft of an edit that the node could not read is there still.
    if !draft.exists() {
        let text = read_text(&path)?.unwrap_or_default();
        write_private(&draft, text.as_bytes())?;
    }
    let editor = editor_of_environment().unwrap_or_else(|| EDITOR.to_owned());
    let failed = |e: &std::io::Error| CliError::io(&editor, e).hint("set EDITOR to the editor of your choice");
    // As other programs do: the variable may hold flags of the editor.
    let mut shell = Command::new("sh");
    let ended =
        shell.arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(&draft).status().map_err(|e| failed(&e))?;
    if !ended.success() {
        let _ = fs::remove_file(&draft);
        return Err(CliError::failed(format!("{editor} ended with an error; config.toml is as it was")));
    }
    let loaded = config::load(&draft).map_err(|error| {
        let hint = format!("config.toml is as it was; `spore config edit` opens {} again", draft.display());
        CliError::from(error).hint(hint)
    })?;
    for note in &loaded.notes {
        super::warn(note);
    }
    let text = read_text(&draft)?.unwrap_or_default();
    write_private(&path, text.as_bytes())?;
    let _ = fs::remove_file(&draft);
    writeln!(context.out, "Wrote {}.", path.display())?;
    access::note_running(context).await
}

fn draft(context: &Context) -> PathBuf {
    context.data.root().join("config.draft.toml")
}

fn editor_of_environment() -> Option<String> {
    given("VISUAL").or_else(|| given("EDITOR"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_defaults_are_those_of_the_program() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, DEFAULTS).unwrap();
        let loaded = config::load(&path).unwrap();
        assert_eq!(loaded.config, config::Config::default());
        assert!(loaded.unknown.is_empty(), "{:?}", loaded.unknown);
    }

    #[test]
    fn text_on_the_command_line_has_the_type_that_fits() {
        let first = |text: &str| readings(text).remove(0);
        assert_eq!(first("7"), Value::Integer(7));
        assert_eq!(first("0.5"), Value::Float(0.5));
        assert_eq!(first("flex"), Value::String("flex".into()));
        assert_eq!(readings("a:1, b:2").last().unwrap().as_array().unwrap().len(), 2);
        assert_eq!(readings("7 = 8").len(), 2, "no second key is smuggled in");
    }

    #[test]
    fn message_about_a_value_names_no_place_in_the_file() {
        assert_eq!(after("line 3: resource is 500, but must be 1", "resource"), "is 500, but must be 1");
        assert_eq!(after("port: string is not a number", "port"), "string is not a number");
    }
}
