//! `spore set`: chooses the language model that proposes experiments, and the nodes that this node trusts.

use std::io::Write;

use clap::{Args as ClapArgs, Subcommand};
use spore_lab::research::llm::Provider;
use toml::Value;

use super::{CliError, Context, access, trust};
use crate::config;

/// The provider that stands for the built-in proposer.
const NONE: &str = "none";

/// Choose the language model that proposes experiments, or the nodes that this node trusts
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    setting: Option<Setting>,
    /// The provider: anthropic, groq, local, openai, openrouter or xai; `none` for the built-in proposer
    #[arg(required = true)]
    provider: Option<String>,
    /// The API key, which is kept in config.toml (mode 0600); `local` needs none
    key: Option<String>,
    /// The name of the model [default: the usual model of the provider]
    #[arg(long)]
    model: Option<String>,
    /// The address of the API with its version, such as http://127.0.0.1:11434/v1
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Setting {
    Trust(trust::Args),
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    if let Some(Setting::Trust(args)) = &args.setting {
        return trust::run(args, context).await;
    }
    let given = args.provider.as_deref().unwrap_or_default();
    let path = context.data.config();
    if given == NONE {
        // A file without the table stays as it is, and no file is made.
        if context.config()?.llm.is_some() {
            config::set(&path, "", &[("llm", None)])?;
        }
        writeln!(context.out, "The built-in proposer proposes experiments now.")?;
        return access::note_running(context).await;
    }
    let provider: Provider = given.parse().map_err(|e| CliError::usage(format!("{e}")))?;
    let key = args.key.as_deref().unwrap_or_default();
    if key.is_empty() && provider != Provider::Local && args.base_url.is_none() {
        return Err(CliError::usage(format!("{} needs an API key", provider.name()))
            .hint(format!("`spore set {} KEY`", provider.name())));
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
    writeln!(context.out, "{} ({model}) proposes experiments now. The key is in {}.", provider.name(), path.display())?;
    access::note_running(context).await
}
