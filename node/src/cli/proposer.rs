//! The lines of `spore status` about the language model that proposes experiments.

use spore_api::dto::ProposerStatus;

use super::{hints::hint_for_llm, text};

/// The first line says how the model is doing. The others say what is wrong, and what to do about it.
pub fn lines(proposer: &ProposerStatus) -> Vec<String> {
    let name = format!("{} ({})", text::line(&proposer.model), text::line(&proposer.provider));
    let used = format!("{} of {} used", proposer.answered, text::count(proposer.asked, "answer", "answers"));
    let state = match proposer.state.as_str() {
        "untried" => "not asked yet".to_owned(),
        "ok" => used,
        "stopped" => "not asked any more; the built-in proposer stands in".to_owned(),
        _ => {
            let times = text::count(proposer.failures_in_a_row, "failure", "failures");
            let retry = match proposer.retry_seconds {
                Some(seconds) if seconds >= 1.0 => format!(", asked again in {}", text::duration(seconds as u64)),
                _ => String::new(),
            };
            format!("{times} in a row{retry}; the built-in proposer stands in ({used})")
        }
    };
    let mut lines = vec![format!("{name}: {state}")];
    lines.extend(spent(proposer));
    if let Some(failure) = &proposer.failure {
        lines.push(text::line(failure));
    }
    if let Some(hint) = proposer.fault.as_deref().and_then(hint_for_llm) {
        lines.push(hint.to_owned());
    }
    if proposer.shortened && proposer.fault.as_deref() != Some("context") {
        let tokens = proposer.context_tokens.map(|tokens| format!(" of {tokens} tokens")).unwrap_or_default();
        lines.push(format!("its context{tokens} is small, so parts of the question are left out"));
        lines.extend(hint_for_llm("context").map(str::to_owned));
    }
    lines
}

/// What the model cost today, with the caps. None while it cost nothing and has no cap.
fn spent(proposer: &ProposerStatus) -> Option<String> {
    let ProposerStatus { tokens_today, cost_today, tokens_by_day, cost_by_day, .. } = proposer;
    if *tokens_today == 0 && tokens_by_day.is_none() && cost_by_day.is_none() {
        return None;
    }
    let cap = tokens_by_day.map(|cap| format!(" of {cap}")).unwrap_or_default();
    let tokens = format!("today {tokens_today}{cap} tokens");
    Some(match (cost_by_day, *cost_today > 0.0) {
        (Some(cap), _) => format!("{tokens}, cost {cost_today:.4} of {cap}"),
        (None, true) => format!("{tokens}, cost {cost_today:.4}"),
        (None, false) => tokens,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn cost_of_the_day_is_shown_with_its_caps() {
        let mut proposer = proposer("ok");
        assert_eq!(spent(&proposer), None);
        (proposer.tokens_today, proposer.tokens_by_day) = (1200, Some(50_000));
        assert_eq!(spent(&proposer).unwrap(), "today 1200 of 50000 tokens");
        (proposer.cost_today, proposer.cost_by_day) = (0.25, Some(2.0));
        assert_eq!(spent(&proposer).unwrap(), "today 1200 of 50000 tokens, cost 0.2500 of 2");
    }

    use super::*;

    fn proposer(state: &str) -> ProposerStatus {
        ProposerStatus {
            provider: "openai".into(),
            model: "gpt-5".into(),
            state: state.into(),
            fault: None,
            failure: None,
            failures_in_a_row: 0,
            asked: 9,
            answered: 4,
            tokens_today: 0,
            cost_today: 0.0,
            tokens_by_day: None,
            cost_by_day: None,
            prompt_tokens: 0,
            answer_tokens: 0,
            context_tokens: None,
            shortened: false,
            retry_seconds: None,
        }
    }

    #[test]
    fn failing_model_is_shown_with_its_reason_and_the_cure() {
        assert_eq!(lines(&proposer("ok")), ["gpt-5 (openai): 4 of 9 answers used"]);
        let mut failing = proposer("failing");
        failing.fault = Some("limit".into());
        failing.failure = Some("the server refused with status 429: slow".into());
        failing.failures_in_a_row = 3;
        failing.retry_seconds = Some(61.0);
        let shown = lines(&failing);
        assert!(shown[0].contains("3 failures in a row, asked again in "), "{shown:?}");
        assert!(shown[1].contains("429") && shown.len() == 3, "{shown:?}");
        let mut stopped = proposer("stopped");
        stopped.fault = Some("key".into());
        assert!(lines(&stopped).iter().any(|line| line.contains("spore set")), "{:?}", lines(&stopped));
        let small = ProposerStatus { shortened: true, context_tokens: Some(4096), ..proposer("ok") };
        assert!(lines(&small).join(" ").contains("4096") && lines(&small).join(" ").contains("OLLAMA_CONTEXT_LENGTH"));
    }
}
