//! `spore set`: the language model that proposes experiments.

use std::io::Write;

use clap::Args as ClapArgs;
use spore_lab::research::llm::Provider;
use toml::Value;

use super::{CliError, Context, source::Client};
use crate::config;

/// Goes back to the built-in proposer.
const NONE: &str = "none";

/// Let a language model propose experiments
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// anthropic, groq, local, openai, openrouter or xai; `none` goes back to the built-in proposer
    provider: String,
    /// The API key, kept in config.toml (mode 0600); `local` needs none
    key: Option<String>,
    /// The model's name [default: the provider's usual one]
    #[arg(long)]
    model: Option<String>,
    /// Where its API answers, up to and with the version, such as http://127.0.0.1:11434/v1
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let path = context.data.config();
    if args.provider == NONE {
        // A file without the table needs no change, and none is made for it.
        if context.config()?.llm.is_some() {
            config::set(&path, "", &[("llm", None)])?;
        }
        writeln!(context.out, "The built-in proposer proposes experiments.")?;
        return note_running(context).await;
    }
    let provider: Provider = args.provider.parse().map_err(|e| CliError::usage(format!("{e}")))?;
    let key = args.key.as_deref().unwrap_or_default();
    if key.is_empty() && provider != Provider::Local && args.base_url.is_none() {
        return Err(CliError::usage(format!("{} needs an API key", provider.name()))
            .hint(format!("spore set {} KEY", provider.name())));
    }
    let url = args.base_url.as_deref().map(|url| url.trim_end_matches('/'));
    if url.is_some_and(|url| reqwest::Url::parse(url).map_or(true, |url| !matches!(url.scheme(), "http" | "https"))) {
        return Err(CliError::usage("--base-url must begin with http:// or https://"));
    }
    context.data.create()?;
    let text = |text: &str| Value::String(text.to_owned());
    let values = [
        ("provider", Some(text(provider.name()))),
        ("api_key", Some(text(key))),
        ("model", args.model.as_deref().map(text)),
        ("base_url", url.map(text)),
    ];
    config::set(&path, "llm", &values)?;
    let model = args.model.as_deref().unwrap_or(provider.default_model());
    writeln!(context.out, "{} ({model}) proposes experiments. The key is in {}.", provider.name(), path.display())?;
    note_running(context).await
}

async fn note_running(context: &mut Context) -> Result<(), CliError> {
    if Client::find(&context.data).await?.is_some() {
        writeln!(context.out, "The running node takes it up when it starts again.")?;
    }
    Ok(())
}
