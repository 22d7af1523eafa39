//! What research does now, as `spore status` shows it: step and time left, or the backoff and its reason.

use spore_api::dto::ResearchStatus;

use super::text;

/// Lines for people. Empty when there is nothing to add to the activity, which may tell the reason already.
pub fn lines(research: &ResearchStatus, activity: &str) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Some(step), Some(steps)) = (research.step, research.steps.filter(|steps| *steps > 0)) {
        let left = research.eta_seconds.and_then(seconds).map(|left| format!(", about {left} left"));
        lines.push(format!("step {step} of {steps}{}", left.unwrap_or_default()));
    }
    if research.reason.as_deref().is_some_and(|reason| !reason.is_empty() && activity.contains(reason)) {
        return lines;
    }
    let reason = research.reason.as_deref().map(text::line).filter(|reason| !reason.is_empty());
    match (research.retry_seconds.and_then(seconds), reason) {
        (Some(wait), Some(reason)) => lines.push(format!("tries again in {wait}, because {reason}")),
        (Some(wait), None) => lines.push(format!("tries again in {wait}")),
        (None, Some(reason)) => lines.push(format!("because {reason}")),
        (None, None) => {}
    }
    lines
}

/// A rough time. None for a number that is no time.
fn seconds(seconds: f64) -> Option<String> {
    std::time::Duration::try_from_secs_f64(seconds).ok().map(|time| text::duration(time.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_shows_the_step_the_time_left_and_the_reason_of_a_backoff() {
        let mut research = ResearchStatus { state: "training".into(), ..ResearchStatus::default() };
        assert!(lines(&research, "").is_empty());
        (research.step, research.steps, research.eta_seconds) = (Some(120), Some(660), Some(54.2));
        assert_eq!(lines(&research, ""), ["step 120 of 660, about 54s left"]);
        let reason = Some("the dataset is not here\u{1b}[2J".to_owned());
        let research = ResearchStatus { state: "backoff".into(), reason, retry_seconds: Some(600.0), ..research };
        let research = ResearchStatus { step: None, ..research };
        assert_eq!(lines(&research, ""), ["tries again in 10m, because the dataset is not here [2J"]);
        let told = "trying again in 600 s: the dataset is not here\u{1b}[2J";
        assert!(lines(&research, told).is_empty(), "the activity tells it");
        assert!(lines(&ResearchStatus { retry_seconds: Some(f64::NAN), ..ResearchStatus::default() }, "").is_empty());
    }
}
