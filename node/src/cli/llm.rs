//! `spore llm`: tries the language model that proposes experiments. Here the configuration becomes a provider, too.

use std::{
    collections::HashMap,
    io::Write,
    time::{Duration, Instant},
};

use clap::{Args as ClapArgs, Subcommand};
use serde_json::json;
use spore_lab::research::llm::{
    Caps, Client, LlmError, Provider, ProviderConfig,
    answer::{self, ScriptReply},
    clean_key,
    client::{ANSWER_WITHIN, Conversation},
    prompt::{self, Reached, Situation},
    reply::{Answer, Finish},
    suspected_cut,
};
use spore_protocol::HardwareClass;

use super::{CliError, Context, hints::hint_for_llm, text, warn};
use crate::{config::LlmConfig, genesis};

/// The variable that holds the API key. It goes before the one in config.toml.
pub const KEY_VARIABLE: &str = "SPORE_LLM_KEY";

/// Time after which a person who waits for an answer learns that the command still waits.
const SILENT_FOR: Duration = Duration::from_secs(5);

/// Try the language model that proposes experiments
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask the configured language model one real question, and tell how it answers
    Test(Test),
}

#[derive(Debug, ClapArgs)]
struct Test {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let Command::Test(args) = &args.command;
    test(args, context).await
}

/// The key in the environment, if there is one.
pub fn key_of_environment() -> Option<String> {
    std::env::var(KEY_VARIABLE).ok().filter(|key| !key.trim().is_empty())
}

/// The provider of a configuration, with the key of the environment if there is one.
///
/// # Errors
/// When the provider is unknown, or the key, the model or the address cannot be used.
pub fn provider(llm: &LlmConfig) -> Result<ProviderConfig, CliError> {
    provider_with(llm, key_of_environment())
}

fn provider_with(llm: &LlmConfig, environment: Option<String>) -> Result<ProviderConfig, CliError> {
    let hint = "choose the language model again with `spore set PROVIDER KEY`";
    let wrong = |text: String| CliError::failed(text).hint(hint);
    let name: Provider = llm.provider.parse().map_err(|e| wrong(format!("config.toml: llm.provider: {e}")))?;
    let (place, key) = match environment {
        Some(key) => (KEY_VARIABLE, key),
        None => ("config.toml: llm.api_key", llm.api_key.0.clone()),
    };
    let key = match key.is_empty() {
        true => key,
        false => clean_key(&key).map_err(|e| wrong(format!("{place}: {e}")))?,
    };
    let mut provider = ProviderConfig::new(name, key);
    if let Some(model) = llm.model.as_ref().filter(|model| !model.trim().is_empty()) {
        model.trim().clone_into(&mut provider.model);
    }
    if let Some(url) = &llm.base_url {
        url.trim().trim_end_matches('/').clone_into(&mut provider.base_url);
    }
    if provider.model.is_empty() {
        return Err(wrong(format!("config.toml: llm.model: {} needs the name of a model", name.name())));
    }
    if let Some(fault) = url_fault(&provider.base_url) {
        return Err(wrong(format!("config.toml: llm.base_url: the address {fault}")));
    }
    provider.max_tokens = llm.max_tokens;
    provider.temperature = llm.temperature;
    provider.context = llm.context;
    provider.caps = Caps {
        tokens_by_day: llm.tokens_by_day,
        cost_by_day: llm.cost_by_day,
        price_prompt: llm.price_prompt.unwrap_or_default(),
        price_answer: llm.price_answer.unwrap_or_default(),
    };
    Ok(provider)
}

/// What is wrong with the address of an API. Commands and messages show the address, so it must hold no secret.
pub fn url_fault(url: &str) -> Option<&'static str> {
    let Some(url) = reqwest::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https")) else {
        return Some("must begin with http:// or https:// and name a host");
    };
    match () {
        () if !url.username().is_empty() || url.password().is_some() => {
            Some("must hold no user name and no password: give the key by itself")
        }
        () if url.query().is_some() || url.fragment().is_some() => Some("must end with its path, without `?` and `#`"),
        () => None,
    }
}

async fn test(args: &Test, context: &mut Context) -> Result<(), CliError> {
    let Some(llm) = context.config()?.llm else {
        return Err(CliError::not_found("no language model is configured: the built-in proposer proposes experiments")
            .hint("choose one with `spore set PROVIDER KEY`"));
    };
    let config = provider(&llm)?;
    let question = question(config.context)?;
    let client = Client::new(config.clone()).map_err(|e| CliError::failed(e.to_string()))?;
    if !args.json {
        writeln!(context.out, "Model         {} ({})", text::line(&config.model), config.name.name())?;
        writeln!(context.out, "Address       {}", config.base_url)?;
        let shortened = if question.shortened { ", shortened to fit the context" } else { "" };
        writeln!(context.out, "Question      {} characters{shortened}", question.chars())?;
        context.out.flush()?;
    }
    let began = Instant::now();
    let answer = asked(&client, &question).await;
    let taken = began.elapsed();
    let answer = answer.map_err(|error| unanswered(&error))?;
    if let Some(context) = suspected_cut(&answer, question.chars()) {
        warn(&format!(
            "the server may have cut the question to a context of {context} tokens, without a word: raise its context length (in \
             Ollama: OLLAMA_CONTEXT_LENGTH=16384, or `PARAMETER num_ctx 16384` in a Modelfile), or pass `--context {context}` \
             to `spore set`, which shortens the question"
        ));
    }
    let mut script = answer::of(&answer, genesis::SCRIPT);
    if let Ok(reply) = &script
        && let Err(problem) = traced(reply.script.clone()).await?
    {
        script = Err(problem);
    }
    if args.json {
        return context.json(&json!({
            "provider": config.name.name(), "model": config.model, "base_url": config.base_url,
            "question_characters": question.chars(), "shortened": question.shortened,
            "seconds": taken.as_secs_f64(), "answer_characters": answer.text.chars().count(),
            "prompt_tokens": answer.usage.prompt, "answer_tokens": answer.usage.answer,
            "finish": finish(&answer), "script_lines": script.as_ref().ok().map(|s| s.script.lines().count()),
            "problem": script.as_ref().err(),
        }));
    }
    print(&answer, &script, taken, context)
}

/// The error of a question that got no answer.
pub fn unanswered(error: &LlmError) -> CliError {
    let hint = hint_for_llm(error.fault().name()).unwrap_or_default();
    CliError::failed(format!("the language model gave no answer: {error}")).hint(hint)
}

/// Asks, and says meanwhile that there is no answer yet.
async fn asked(client: &Client, question: &Conversation) -> Result<Answer, LlmError> {
    let answer = client.ask(question);
    tokio::pin!(answer);
    if let Ok(early) = tokio::time::timeout(SILENT_FOR, &mut answer).await {
        return early;
    }
    warn(&format!(
        "the server has sent no whole answer for {} s. A model that reasons, or that is being loaded, takes up to some minutes; \
         this command waits for {} s. Ctrl-C ends it",
        SILENT_FOR.as_secs(),
        ANSWER_WITHIN.as_secs()
    ));
    answer.await
}

fn print(
    answer: &Answer,
    script: &Result<ScriptReply, String>,
    taken: Duration,
    context: &mut Context,
) -> Result<(), CliError> {
    let out = &mut context.out;
    let finish = finish(answer);
    let characters = answer.text.chars().count();
    writeln!(out, "Answer        {characters} characters in {:.1} s, {finish}", taken.as_secs_f64())?;
    let tokens = |count: Option<u64>| count.map_or_else(|| "an unknown number".to_owned(), |count| count.to_string());
    writeln!(
        out,
        "Tokens        {} of the question, {} of the answer",
        tokens(answer.usage.prompt),
        tokens(answer.usage.answer)
    )?;
    match script {
        Ok(reply) => {
            writeln!(out, "Script        {} lines, can be run", reply.script.lines().count())?;
            writeln!(out, "Description   {}", text::line(&reply.description))?;
        }
        Err(problem) => writeln!(out, "Script        none that can be used: {}", text::line(problem))?,
    }
    Ok(())
}

/// Whether a script can be run. A worker process traces it, because a model wrote it. The inner error is that of the
/// script.
#[cfg(feature = "trainer")]
async fn traced(script: String) -> Result<Result<(), String>, CliError> {
    use spore_trainer::worker::{FailureKind, Script, Supervisor};
    let program = std::env::current_exe().map_err(|e| CliError::io("cannot find the file of this program", &e))?;
    let scratch = tempfile::tempdir().map_err(|e| CliError::io("cannot make a temporary directory", &e))?;
    let supervisor = Supervisor::new(program, scratch.path().to_owned());
    let never = std::sync::atomic::AtomicBool::new(false);
    let inspected = tokio::task::spawn_blocking(move || supervisor.inspect(Script::Starlark(script), &never)).await;
    match inspected.map_err(|e| CliError::failed(e.to_string()))? {
        Ok(_) => Ok(Ok(())),
        Err(failure) if matches!(failure.kind, FailureKind::Script | FailureKind::Causality) => Ok(Err(failure.reason)),
        Err(failure) => Err(CliError::failed(format!("the script cannot be checked: {failure}"))),
    }
}

/// A program without a trainer runs no script.
#[cfg(not(feature = "trainer"))]
async fn traced(_script: String) -> Result<Result<(), String>, CliError> {
    Ok(Ok(()))
}

const fn finish(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Whole => "whole",
        Finish::Cut => "cut off",
        Finish::Withheld => "withheld",
    }
}

/// The question about the built-in task's base script, as research asks it before there are any other results.
///
/// # Errors
/// When the built-in task cannot be read.
pub fn question(context: Option<u64>) -> Result<Conversation, CliError> {
    let (manifest, root) = (genesis::manifest(), genesis::root());
    let manifest = manifest.map_err(|e| CliError::failed(e.to_string()))?;
    let root = root.map_err(|e| CliError::failed(e.to_string()))?;
    let situation = Situation {
        task_name: &manifest.name,
        task_description: &manifest.description,
        metric: &manifest.metric,
        goal: manifest.goal,
        time_budget: manifest.time_budget,
        class: &HardwareClass::of(&root.gpu_model),
        gpu_model: &root.gpu_model,
        reached: Reached { metric: root.val_bpb, steps: root.num_steps, params: root.num_params },
        parent_script: genesis::SCRIPT,
        peak_memory: root.peak_vram_mb,
        records: &[],
        parent: root.id().into(),
        lineage: &[],
        gains: &HashMap::new(),
        noise: None,
        explore: false,
    };
    Ok(prompt::conversation(&situation, context, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn config(provider: &str, key: &str) -> LlmConfig {
        LlmConfig { provider: provider.into(), api_key: Secret(key.into()), ..LlmConfig::default() }
    }

    #[test]
    fn key_of_the_environment_goes_before_the_file() {
        let llm = config("openai", " sk-file\n");
        assert_eq!(provider_with(&llm, None).unwrap().key, "sk-file");
        assert_eq!(provider_with(&llm, Some("sk-env\r\n".into())).unwrap().key, "sk-env");
        let error = provider_with(&llm, Some("sk\nenv".into())).unwrap_err();
        assert!(error.message.starts_with(KEY_VARIABLE) && !error.message.contains("sk"), "{error}");
        let error = provider_with(&config("openai", "sk x"), None).unwrap_err();
        assert!(error.message.contains("llm.api_key") && error.hint.is_some(), "{error}");
    }

    #[test]
    fn custom_provider_needs_an_address_and_a_model() {
        let mut llm = config("custom", "");
        assert!(provider_with(&llm, None).unwrap_err().message.contains("llm.model"));
        llm.model = Some("m".into());
        assert!(provider_with(&llm, None).unwrap_err().message.contains("llm.base_url"));
        llm.base_url = Some("http://127.0.0.1:1/v1/".into());
        assert_eq!(provider_with(&llm, None).unwrap().base_url, "http://127.0.0.1:1/v1");
    }

    #[test]
    fn address_with_a_secret_or_a_query_is_refused() {
        for bad in
            ["ftp://h/v1", "h/v1", "http://", "http://u:p@h/v1", "http://u@h", "http://h/v1?key=k", "http://h/#a"]
        {
            assert!(url_fault(bad).is_some(), "{bad}");
        }
        assert_eq!(url_fault("HTTPS://h:1/v1"), None);
    }

    #[test]
    fn question_of_the_test_is_a_real_one() {
        let whole = question(None).unwrap();
        assert!(whole.turns[0].text().contains("train(") && whole.system.contains("## Functions"));
        assert!(question(Some(4096)).unwrap().shortened);
    }
}
