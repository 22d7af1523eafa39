//! `spore set`: chooses the language model that proposes experiments, and the nodes that this node trusts.

use std::io::Write;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::json;
use spore_lab::research::llm::{Provider, clean_key};
use toml::Value;

use super::{CliError, Context, access, llm, secret, trust};
use crate::config::{self, LlmConfig};

/// The provider that stands for the built-in proposer.
const NONE: &str = "none";
/// The key that stands for standard input.
const STDIN: &str = "-";

/// Choose the language model that proposes experiments, or the nodes that this node trusts
///
/// Without arguments, the present choice is shown.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    setting: Option<Setting>,
    /// The provider: anthropic, custom, groq, local, openai, openrouter or xai; `none` for the built-in proposer. Without
    /// one: show what proposes now
    provider: Option<String>,
    /// The API key, which is kept in config.toml (mode 0600), or `-` to read it from standard input. Without one, it is
    /// asked for at a terminal, or the node reads it from SPORE_LLM_KEY whenever it starts; `local` and `custom` need none
    key: Option<String>,
    /// The name of the model [default: the usual model of the provider]
    #[arg(long, short, requires = "provider")]
    model: Option<String>,
    /// The address of the API with its version, such as http://127.0.0.1:11434/v1; `custom` needs it
    #[arg(long, value_name = "URL", requires = "provider")]
    base_url: Option<String>,
    /// The most tokens of an answer [default: the server's own limit]
    #[arg(long, value_name = "TOKENS")]
    max_tokens: Option<u32>,
    /// How freely the model chooses its words, 0.0 to 2.0 [default: the server's]
    #[arg(long, value_name = "NUMBER")]
    temperature: Option<f64>,
    /// The tokens that question and answer may have together; the question fits itself to them [default: as the server
    /// tells]
    #[arg(long, value_name = "TOKENS")]
    context: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Setting {
    Trust(trust::Args),
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    if let Some(Setting::Trust(args)) = &args.setting {
        return trust::run(args, context).await;
    }
    let Some(given) = args.provider.as_deref() else { return show(args, context) };
    if given == NONE {
        // A file without the table stays as it is, and no file is made.
        if context.config()?.llm.is_some() {
            config::set(&context.data.config(), "", &[("llm", None)])?;
        }
        if args.json {
            return show(args, context);
        }
        writeln!(context.out, "The built-in proposer proposes experiments now.")?;
        return access::note_running(context).await;
    }
    let provider: Provider = given.parse().map_err(|e| CliError::usage(format!("{e}")))?;
    let url = base_url(args, provider)?;
    let model = args.model.as_deref().map(str::trim).filter(|model| !model.is_empty());
    if model.is_none() && provider.default_model().is_empty() {
        return Err(CliError::usage(format!("{} needs the name of a model", provider.name()))
            .hint("name it with `--model NAME`"));
    }
    let key = key(args, provider).await?;
    save(args, provider, key.as_deref(), model, url.as_deref(), context)?;
    if args.json {
        return show(args, context);
    }
    let model = model.unwrap_or(provider.default_model());
    let place = match (&key, llm::key_of_environment()) {
        (Some(_), _) => format!("The key is in {}.", context.data.config().display()),
        (None, Some(_)) => format!("The node reads the key from {} whenever it starts.", llm::KEY_VARIABLE),
        (None, None) => "No key is used.".to_owned(),
    };
    writeln!(context.out, "{} ({model}) proposes experiments now. {place}", provider.name())?;
    writeln!(context.out, "Try it: `spore llm test` asks one question.")?;
    access::note_running(context).await
}

fn base_url(args: &Args, provider: Provider) -> Result<Option<String>, CliError> {
    let url = args.base_url.as_deref().map(|url| url.trim().trim_end_matches('/'));
    if let Some(fault) = url.and_then(llm::url_fault) {
        return Err(CliError::usage(format!("--base-url {fault}")));
    }
    if url.is_none() && provider.base_url().is_empty() {
        return Err(CliError::usage(format!("{} needs the address of its API", provider.name()))
            .hint(format!("`spore set {} KEY --base-url URL --model NAME`", provider.name())));
    }
    Ok(url.map(str::to_owned))
}

/// The key to keep in the file: the given one, the one on standard input, or the one that a person types. None when the
/// environment holds it, or when none is needed.
async fn key(args: &Args, provider: Provider) -> Result<Option<String>, CliError> {
    let needed = provider.needs_key() && args.base_url.is_none();
    let given = match args.key.as_deref() {
        Some(STDIN) => secret::from_stdin()?,
        Some(key) => key.to_owned(),
        None if !needed || llm::key_of_environment().is_some() => return Ok(None),
        None if secret::can_ask() => secret::ask(&format!("The API key of {}", provider.name())).await?,
        None => {
            return Err(CliError::usage(format!("{} needs an API key", provider.name())).hint(format!(
                "`spore set {} KEY`, or `-` for KEY to read it from standard input, or set {} for the node",
                provider.name(),
                llm::KEY_VARIABLE
            )));
        }
    };
    // A script may pass an empty key to a server that needs none.
    if given.is_empty() && !needed {
        return Ok(None);
    }
    let wrong =
        |e| CliError::usage(format!("{e}")).hint("copy the key again; it is one line of letters, digits and signs");
    clean_key(&given).map(Some).map_err(wrong)
}

fn save(
    args: &Args,
    provider: Provider,
    key: Option<&str>,
    model: Option<&str>,
    url: Option<&str>,
    context: &Context,
) -> Result<(), CliError> {
    context.data.create()?;
    let text = |text: &str| Value::String(text.to_owned());
    let number = |number: u32| Value::Integer(number.into());
    let values = [
        ("provider", Some(text(provider.name()))),
        ("api_key", key.map(text)),
        ("model", model.map(text)),
        ("base_url", url.map(text)),
        // The reference's name of the key must not stand beside ours.
        ("max_token", None),
        ("max_tokens", args.max_tokens.map(number)),
        ("temperature", args.temperature.map(Value::Float)),
        ("context", args.context.map(number)),
    ];
    Ok(config::set(&context.data.config(), "llm", &values)?)
}

/// Shows the present choice.
fn show(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let config = context.config()?.llm;
    let configured = config.as_ref().map(llm::provider).transpose()?;
    let key = match (&config, llm::key_of_environment()) {
        (_, Some(_)) => "environment",
        (Some(LlmConfig { api_key, .. }), None) if !api_key.0.is_empty() => "config.toml",
        _ => "none",
    };
    if args.json {
        let shown = configured.map(|llm| {
            json!({ "provider": llm.name.name(), "model": llm.model, "base_url": llm.base_url, "key": key,
                "max_tokens": llm.max_tokens, "temperature": llm.temperature, "context": llm.context })
        });
        return context.json(&json!({ "llm": shown }));
    }
    let out = &mut context.out;
    let Some(llm) = configured else {
        writeln!(
            out,
            "The built-in proposer proposes experiments. Language models that can, with their usual models:"
        )?;
        for provider in Provider::ALL {
            let model = Some(provider.default_model()).filter(|model| !model.is_empty());
            writeln!(out, "  {:<11} {}", provider.name(), model.unwrap_or("(any server that speaks OpenAI's API)"))?;
        }
        return Ok(writeln!(out, "`spore set PROVIDER KEY` chooses one.")?);
    };
    writeln!(out, "Provider      {}", llm.name.name())?;
    writeln!(out, "Model         {}", llm.model)?;
    writeln!(out, "Address       {}", llm.base_url)?;
    let key = match key {
        "environment" => format!("in {}", llm::KEY_VARIABLE),
        "none" => "none".to_owned(),
        place => format!("in {place}"),
    };
    writeln!(out, "Key           {key}")?;
    if let Some(tokens) = llm.max_tokens {
        writeln!(out, "Answer        at most {tokens} tokens")?;
    }
    if let Some(temperature) = llm.temperature {
        writeln!(out, "Temperature   {temperature}")?;
    }
    if let Some(tokens) = llm.context {
        writeln!(out, "Context       {tokens} tokens")?;
    }
    Ok(())
}
